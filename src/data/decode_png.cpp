// PNG by libpng.
#include <fmt/format.h>
#include <png.h>

#include <cstring>
#include <vector>

#include "data/decode_format.h"

namespace nfscale {
namespace {

struct Session {
  std::string_view rest;  // bytes not read yet
  bool early_end = false;
  char message[200] = {};
};

void on_read(png_structp png, png_bytep to, size_t count) {
  Session& s = *static_cast<Session*>(png_get_io_ptr(png));
  if (s.rest.size() < count) {
    s.early_end = true;
    png_error(png, "the file ends early");
  }
  std::memcpy(to, s.rest.data(), count);
  s.rest.remove_prefix(count);
}

[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  Session& s = *static_cast<Session*>(png_get_error_ptr(png));
  std::strncpy(s.message, text, sizeof s.message - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

int orientation_of(png_structp png, png_infop info) {
  png_uint_32 size = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(png, info, &size, &exif) == 0 || exif == nullptr) return 1;
  return exif_orientation({reinterpret_cast<const char*>(exif), size});
}

// Nothing in here may own memory: errors jump out of it.
void run(png_structp png, png_infop info, Picture& picture, std::vector<png_bytep>& rows,
         int& orientation) {
  png_read_info(png, info);
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != static_cast<size_t>(picture.width) * 3)
    png_error(png, "rows of an unexpected length");
  png_read_image(png, rows.data());
  png_read_end(png, info);
  orientation = orientation_of(png, info);
}

}  // namespace

std::string decode_png(std::string_view bytes, const DecodeOptions& options, Picture& picture,
                       int& orientation) {
  // The size before anything else: the first chunk is the header.
  if (bytes.size() < 33) return "truncated: the file ends in the header";
  if (bytes.substr(8, 8) != std::string_view("\0\0\0\x0DIHDR", 8))
    return "bad-header: the first chunk is not IHDR";
  const auto number = [&](size_t at) {
    return png_get_uint_32(reinterpret_cast<png_const_bytep>(bytes.data() + at));
  };
  const int64_t width = number(16), height = number(20);
  if (std::string fault = size_fault(width, height, options); !fault.empty()) return fault;

  Session s{.rest = bytes};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  if (info == nullptr) {
    png_destroy_read_struct(&png, nullptr, nullptr);
    throw std::bad_alloc();
  }
  picture = Picture(width, height);
  std::vector<png_bytep> rows(static_cast<size_t>(height));
  for (size_t y = 0; y < rows.size(); ++y)
    rows[y] = picture.rgb.data() + y * static_cast<size_t>(width) * 3;
  bool good = false;
  if (setjmp(png_jmpbuf(png)) == 0) {
    png_set_read_fn(png, &s, on_read);
    png_set_user_limits(png, kMaxSide, kMaxSide);
    png_set_chunk_cache_max(png, 128);
    png_set_chunk_malloc_max(png, 8 << 20);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    run(png, info, picture, rows, orientation);
    good = true;
  }
  png_destroy_read_struct(&png, &info, nullptr);
  if (good) return "";
  return fmt::format("{}: {}", s.early_end ? "truncated" : "bad-data", s.message);
}

}  // namespace nfscale
