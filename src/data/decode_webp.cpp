// WebP by libwebp.
#include <fmt/format.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "data/decode_format.h"

namespace nfscale {
namespace {

using namespace std::string_view_literals;

std::string status_text(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OK:
      return "";
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
      return "truncated: the file ends early";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "unsupported: a feature of WebP that libwebp does not know";
    default:
      return fmt::format("bad-data: libwebp reports status {}", static_cast<int>(status));
  }
}

// Decodes one bitstream to its place in the picture.
std::string decode_at(const uint8_t* bytes, size_t size, Picture& picture, int64_t x, int64_t y) {
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) return "bad-data: wrong version of libwebp";
  if (const auto status = WebPGetFeatures(bytes, size, &config.input); status != VP8_STATUS_OK)
    return status_text(status);
  if (x + config.input.width > picture.width || y + config.input.height > picture.height)
    return "bad-header: a frame reaches beyond the canvas";
  const int64_t stride = picture.width * 3;
  const int64_t begin = y * stride + x * 3;
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = picture.rgb.data() + begin;
  config.output.u.RGBA.stride = static_cast<int>(stride);
  config.output.u.RGBA.size = picture.rgb.size() - static_cast<size_t>(begin);
  const VP8StatusCode status = WebPDecode(bytes, size, &config);
  WebPFreeDecBuffer(&config.output);
  return status_text(status);
}

int orientation_of(WebPDemuxer* demuxer) {
  if (!(WebPDemuxGetI(demuxer, WEBP_FF_FORMAT_FLAGS) & EXIF_FLAG)) return 1;
  WebPChunkIterator chunk;
  int orientation = 1;
  if (WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) {
    std::string_view exif(reinterpret_cast<const char*>(chunk.chunk.bytes), chunk.chunk.size);
    if (exif.starts_with("Exif\0\0"sv)) exif.remove_prefix(6);
    orientation = exif_orientation(exif);
    WebPDemuxReleaseChunkIterator(&chunk);
  }
  return orientation;
}

}  // namespace

std::string decode_webp(std::string_view bytes, const DecodeOptions& options, Picture& picture,
                        int& orientation) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  WebPBitstreamFeatures features;
  if (const auto status = WebPGetFeatures(data, bytes.size(), &features); status != VP8_STATUS_OK)
    return status_text(status);
  if (std::string fault = size_fault(features.width, features.height, options); !fault.empty())
    return fault;

  const WebPData all = {data, bytes.size()};
  const std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer(WebPDemux(&all),
                                                                     WebPDemuxDelete);
  if (demuxer) orientation = orientation_of(demuxer.get());
  picture = Picture(features.width, features.height);
  if (!features.has_animation) return decode_at(data, bytes.size(), picture, 0, 0);

  if (!demuxer) return "truncated: the file ends early";
  WebPIterator frame;
  if (!WebPDemuxGetFrame(demuxer.get(), 1, &frame)) return "bad-data: no frame in the animation";
  std::string fault = "truncated: the first frame ends early";
  if (frame.complete)
    fault = decode_at(frame.fragment.bytes, frame.fragment.size, picture, frame.x_offset,
                      frame.y_offset);
  WebPDemuxReleaseIterator(&frame);
  return fault;
}

}  // namespace nfscale
