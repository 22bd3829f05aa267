#include "data/decode.h"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "data/decode_format.h"

namespace nfscale {
namespace {

using namespace std::string_view_literals;

bool known_elsewhere(std::string_view b) {
  for (const auto magic : {"GIF8"sv, "BM"sv, "II*\0"sv, "MM\0*"sv, "\xFF\x0A"sv, "8BPS"sv,
                           "\0\0\x01\0"sv, "\0\0\0\x0CJXL "sv, "\0\0\0\x0CjP"sv})
    if (b.starts_with(magic)) return true;
  return b.size() >= 12 && b.substr(4, 4) == "ftyp";  // HEIC, AVIF
}

}  // namespace

std::string size_fault(int64_t width, int64_t height, const DecodeOptions& options) {
  if (width < 1 || height < 1) return fmt::format("bad-header: {} x {} pixels", width, height);
  if (width > kMaxSide || height > kMaxSide || width * height > options.max_pixels)
    return fmt::format("too-large: {} x {} pixels, data.max_pixels is {}", width, height,
                       options.max_pixels);
  return "";
}

Decoded decode(std::string_view bytes, const DecodeOptions& options) {
  Decoded result;
  int orientation = 1;
  if (bytes.empty()) {
    result.broken = "empty: no bytes";
  } else if (static_cast<int64_t>(bytes.size()) > options.max_bytes) {
    result.broken =
        fmt::format("too-large: {} bytes, data.max_bytes is {}", bytes.size(), options.max_bytes);
  } else if (bytes.starts_with("\xFF\xD8\xFF"sv)) {
    result.broken = decode_jpeg(bytes, options, result.picture, orientation);
  } else if (bytes.starts_with("\x89PNG\r\n\x1A\n"sv)) {
    result.broken = decode_png(bytes, options, result.picture, orientation);
  } else if (bytes.starts_with("RIFF"sv) && bytes.substr(0, 12).ends_with("WEBP")) {
    result.broken = decode_webp(bytes, options, result.picture, orientation);
  } else if (known_elsewhere(bytes)) {
    result.broken = "unsupported: neither JPEG nor PNG nor WebP";
  } else {
    result.broken = "not-an-image: neither JPEG nor PNG nor WebP";
  }
  if (!result.broken.empty())
    result.picture = {};
  else if (options.exif && orientation != 1)
    result.picture = turned(std::move(result.picture), orientation);
  return result;
}

int exif_orientation(std::string_view tiff) {
  const bool little = tiff.starts_with("II*\0"sv);
  if (!little && !tiff.starts_with("MM\0*"sv)) return 1;
  const auto number = [&](size_t at, size_t bytes) -> std::optional<uint32_t> {
    if (at > tiff.size() || tiff.size() - at < bytes) return std::nullopt;
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; ++i) {
      const auto byte = static_cast<unsigned char>(tiff[at + (little ? bytes - 1 - i : i)]);
      value = value << 8 | byte;
    }
    return value;
  };
  const size_t directory = number(4, 4).value_or(0);
  const uint32_t entries = number(directory, 2).value_or(0);
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + size_t{12} * i;
    const auto tag = number(entry, 2);
    if (!tag) return 1;
    if (*tag != 0x0112) continue;
    const bool is_short = number(entry + 2, 2) == 3u && number(entry + 4, 4) == 1u;
    const uint32_t value = number(entry + 8, 2).value_or(1);
    return is_short && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Picture turned(Picture in, int orientation) {
  if (orientation <= 1 || orientation > 8) return in;
  const bool swapped = orientation >= 5;  // rows become columns
  // Where the picture's first row and column lie in the one that is seen.
  const bool from_right =
      orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  Picture out(swapped ? in.height : in.width, swapped ? in.width : in.height);
  const uint8_t* from = in.rgb.data();
  for (int64_t y = 0; y < in.height; ++y) {
    for (int64_t x = 0; x < in.width; ++x, from += 3) {
      int64_t to_x = swapped ? y : x, to_y = swapped ? x : y;
      if (from_right) to_x = out.width - 1 - to_x;
      if (from_bottom) to_y = out.height - 1 - to_y;
      uint8_t* to = out.rgb.data() + 3 * (to_y * out.width + to_x);
      to[0] = from[0];
      to[1] = from[1];
      to[2] = from[2];
    }
  }
  return out;
}

}  // namespace nfscale
