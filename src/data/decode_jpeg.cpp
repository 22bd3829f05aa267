// JPEG by libjpeg-turbo: islow DCT, fancy upsampling.
#include <fmt/format.h>

#include <csetjmp>
#include <cstdio>
#include <vector>

// These need <cstdio>, and the second the first.
// clang-format off
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include "data/decode_format.h"

namespace nfscale {
namespace {

using namespace std::string_view_literals;

// A file of thousands of scans costs a pass over the whole picture for each of them.
constexpr int kMostScans = 500;

struct Session {
  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf escape;
  int error = 0;           // message code of what ended the decoding
  int warning = 0;         // of the first warning that means damage
  bool early_end = false;  // the bytes ended before the end marker
  bool all_scans = true;
  bool too_many_scans = false;
};

Session& session_of(j_common_ptr c) {
  return *static_cast<Session*>(c->client_data);
}

[[noreturn]] void on_error(j_common_ptr c) {
  Session& s = session_of(c);
  s.error = c->err->msg_code;
  std::longjmp(s.escape, 1);
}

void on_message(j_common_ptr c, int level) {
  if (level >= 0) return;  // a trace
  Session& s = session_of(c);
  switch (c->err->msg_code) {
    case JWRN_JPEG_EOF:
      s.early_end = true;
      break;
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
      break;
    default:
      if (s.warning == 0) s.warning = c->err->msg_code;
  }
}

void on_progress(j_common_ptr c) {
  Session& s = session_of(c);
  if (s.jpeg.input_scan_number <= kMostScans) return;
  s.too_many_scans = true;
  std::longjmp(s.escape, 1);
}

std::string words_of(Session& s, int code) {
  char text[JMSG_LENGTH_MAX];
  s.errors.msg_code = code;
  s.errors.format_message(reinterpret_cast<j_common_ptr>(&s.jpeg), text);
  return text;
}

int orientation_of(const jpeg_decompress_struct& jpeg) {
  for (const jpeg_marker_struct* m = jpeg.marker_list; m; m = m->next) {
    const std::string_view data(reinterpret_cast<const char*>(m->data), m->data_length);
    if (m->marker == JPEG_APP0 + 1 && data.starts_with("Exif\0\0"sv))
      return exif_orientation(data.substr(6));
  }
  return 1;
}

// The end marker is missing: is every block there? A progressive picture whose last scans are gone
// decodes without another warning, as does one whose components come in scans of their own.
bool all_scans_there(const jpeg_decompress_struct& jpeg) {
  for (int c = 0; c < jpeg.num_components; ++c) {
    if (jpeg.comp_info[c].quant_table == nullptr) return false;
    if (jpeg.progressive_mode && jpeg.coef_bits)
      for (int k = 0; k < DCTSIZE2; ++k)
        if (jpeg.coef_bits[c][k] != 0) return false;
  }
  return true;
}

// As Pillow: the values are stored inverted; n = 255 - K, result n - n' * C / 255.
void from_cmyk(const uint8_t* cmyk, size_t pixels, uint8_t* rgb) {
  for (size_t i = 0; i < pixels; ++i, cmyk += 4, rgb += 3) {
    const int n = cmyk[3];
    for (size_t k = 0; k < 3; ++k) {
      const int t = (255 - cmyk[k]) * n + 128;
      rgb[k] = static_cast<uint8_t>(n - (((t >> 8) + t) >> 8));
    }
  }
}

// Everything between setup and teardown. Nothing in here may own memory: errors jump out of it.
// Returns false where `fault` says why the size is refused.
bool run(Session& s, std::string_view bytes, const DecodeOptions& options, Picture& picture,
         std::vector<uint8_t>& row, std::string& fault, int& orientation) {
  jpeg_decompress_struct& jpeg = s.jpeg;
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&jpeg, TRUE);
  fault = size_fault(jpeg.image_width, jpeg.image_height, options);
  if (!fault.empty()) return false;
  const bool cmyk = jpeg.num_components == 4;
  jpeg.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  jpeg.dct_method = JDCT_ISLOW;
  jpeg.do_fancy_upsampling = TRUE;
  orientation = orientation_of(jpeg);
  jpeg_start_decompress(&jpeg);
  picture = Picture(jpeg.output_width, jpeg.output_height);
  if (cmyk) row.resize(size_t{jpeg.output_width} * 4);
  const size_t stride = size_t{jpeg.output_width} * 3;
  while (jpeg.output_scanline < jpeg.output_height) {
    uint8_t* out = picture.rgb.data() + jpeg.output_scanline * stride;
    JSAMPROW to = cmyk ? row.data() : out;
    jpeg_read_scanlines(&jpeg, &to, 1);
    if (cmyk) from_cmyk(row.data(), jpeg.output_width, out);
  }
  s.all_scans = all_scans_there(jpeg);  // finishing frees what it looks at
  jpeg_finish_decompress(&jpeg);
  return true;
}

std::string error_text(Session& s) {
  if (s.too_many_scans) return fmt::format("bad-data: more than {} scans", kMostScans);
  const std::string words = words_of(s, s.error);
  if (s.early_end) return "truncated: " + words;
  switch (s.error) {
    case JERR_SOF_UNSUPPORTED:
    case JERR_ARITH_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_NOT_COMPILED:
      return "unsupported: " + words;
    case JERR_EMPTY_IMAGE:
    case JERR_IMAGE_TOO_BIG:
      return "bad-header: " + words;
    default:
      return "bad-data: " + words;
  }
}

}  // namespace

std::string decode_jpeg(std::string_view bytes, const DecodeOptions& options, Picture& picture,
                        int& orientation) {
  Session s;
  std::string fault;
  std::vector<uint8_t> row;
  s.jpeg.err = jpeg_std_error(&s.errors);
  s.errors.error_exit = on_error;
  s.errors.emit_message = on_message;
  s.jpeg.client_data = &s;
  if (setjmp(s.escape) != 0) {
    fault = error_text(s);
    jpeg_destroy_decompress(&s.jpeg);
    return fault;
  }
  jpeg_create_decompress(&s.jpeg);
  s.progress.progress_monitor = on_progress;
  s.jpeg.progress = &s.progress;
  if (run(s, bytes, options, picture, row, fault, orientation)) {
    if (s.warning != 0)
      fault =
          (s.warning == JWRN_HIT_MARKER ? "truncated: " : "bad-data: ") + words_of(s, s.warning);
    else if (s.early_end && !s.all_scans)
      fault = "truncated: the last scans are missing";
  }
  jpeg_destroy_decompress(&s.jpeg);
  return fault;
}

}  // namespace nfscale
