#include "data/sheet.h"

#include <png.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wconversion"
#include <stb/stb_easy_font.h>
#pragma GCC diagnostic pop

namespace nfscale {
namespace {

constexpr int64_t kLine = 12, kMargin = 8, kLeastWidth = 176;

void fill(Picture& sheet, int64_t x0, int64_t y0, int64_t x1, int64_t y1, uint8_t value) {
  for (int64_t y = std::max<int64_t>(0, y0); y < std::min(sheet.height, y1); ++y)
    for (int64_t i = 3 * std::max<int64_t>(0, x0); i < 3 * std::min(sheet.width, x1); ++i)
      sheet.rgb[static_cast<size_t>(3 * y * sheet.width + i)] = value;
}

// The font is a list of rectangles.
void write_line(Picture& sheet, int64_t x, int64_t y, int64_t width, std::string text) {
  struct Vertex {
    float x, y, z;
    unsigned char color[4];
  };
  for (char& c : text)  // the font has no others, and looks for them outside of its tables
    if (c < ' ' || c > '~') c = '?';
  while (!text.empty() && stb_easy_font_width(text.data()) > width) text.pop_back();
  std::vector<Vertex> corners(text.size() * 4 * 20);
  const int quads =
      stb_easy_font_print(static_cast<float>(x), static_cast<float>(y), text.data(), nullptr,
                          corners.data(), static_cast<int>(corners.size() * sizeof(Vertex)));
  for (size_t q = 0; q < static_cast<size_t>(quads); ++q) {
    const Vertex &a = corners[4 * q], &c = corners[4 * q + 2];
    fill(sheet, std::lround(a.x), std::lround(a.y), std::lround(c.x), std::lround(c.y), 0);
  }
}

void paste(Picture& sheet, int64_t x, int64_t y, const Picture& p, int64_t zoom) {
  for (int64_t row = 0; row < p.height * zoom; ++row)
    for (int64_t column = 0; column < p.width * zoom; ++column)
      std::copy_n(p.rgb.begin() + 3 * (row / zoom * p.width + column / zoom), 3,
                  sheet.rgb.begin() + 3 * ((y + row) * sheet.width + x + column));
}

}  // namespace

Picture contact_sheet(const std::vector<CaptionedPicture>& pictures) {
  NFSCALE_CHECK(!pictures.empty());
  const Picture& first = pictures[0].picture;
  const int64_t zoom = std::max<int64_t>(1, 128 / std::max(first.width, first.height));
  size_t lines = 0;
  for (const CaptionedPicture& p : pictures) lines = std::max(lines, p.lines.size());
  const int64_t width = std::max(kLeastWidth, zoom * first.width) + kMargin,
                height = zoom * first.height + kLine * static_cast<int64_t>(lines) + 2 * kMargin,
                count = std::ssize(pictures);
  // As wide as it is high.
  const double square = std::sqrt(static_cast<double>(count * height) / static_cast<double>(width));
  const int64_t columns = std::clamp<int64_t>(std::lround(square), 1, count),
                rows = (count + columns - 1) / columns;
  Picture sheet(kMargin + columns * width, kMargin + rows * height);
  std::fill(sheet.rgb.begin(), sheet.rgb.end(), uint8_t{255});
  for (int64_t i = 0; i < count; ++i) {
    const CaptionedPicture& p = pictures[static_cast<size_t>(i)];
    const int64_t x = kMargin + i % columns * width, y = kMargin + i / columns * height;
    paste(sheet, x, y, p.picture, zoom);
    int64_t line = y + zoom * p.picture.height + 4;
    for (const std::string& text : p.lines) {
      write_line(sheet, x, line, width - kMargin, text);
      line += kLine;
    }
  }
  return sheet;
}

std::string png_bytes(const Picture& p) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(p.width);
  image.height = static_cast<png_uint_32>(p.height);
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string bytes(size, '\0');
  if (!png_image_write_to_memory(&image, bytes.data(), &size, 0, p.rgb.data(), 0, nullptr))
    fail(Exit::system, "libpng cannot write a picture of {} x {}: {}", p.width, p.height,
         image.message);
  bytes.resize(size);
  return bytes;
}

}  // namespace nfscale
