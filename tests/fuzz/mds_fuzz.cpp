// Any bytes as an index and, behind its first zero byte, a shard of two columns that vary and one
// that does not: what is returned lies within the shard. The same bytes as a raw picture.
#include "data/mds.h"
#include "fuzz.h"

namespace {

using namespace nfscale;

void read_shard(std::string_view bytes) {
  MdsShard format;
  format.bytes = bytes.size();
  for (size_t k = 0; k < 4 && k < bytes.size(); ++k)
    format.samples |= uint64_t{static_cast<unsigned char>(bytes[k])} << (8 * k);
  format.columns = {{"image", "bytes", {}}, {"key", "str", {}}, {"label", "int", 8}};
  const MdsReader reader(format, bytes.size(), [&](uint64_t at, size_t count) {
    if (at > bytes.size()) __builtin_trap();
    return bytes.substr(at, count);
  });
  for (uint64_t i = 0; !reader.fault() && i < reader.samples(); ++i) {
    const auto sample = reader.sample(i);
    if (const auto* values = std::get_if<std::vector<MdsReader::Value>>(&sample))
      for (const auto& v : *values)
        if (v.offset > bytes.size() || v.length > bytes.size() - v.offset) __builtin_trap();
  }
}

}  // namespace

FUZZ(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t end = bytes.find('\0');
  expect_usage([&] { parse_mds_index(bytes.substr(0, end), "index.json"); });
  if (end != std::string_view::npos) read_shard(bytes.substr(end + 1));
  if (mds_pil_fault(bytes.substr(0, kMdsPilHead), size).empty() &&
      mds_pil_picture(bytes).rgb.empty())
    __builtin_trap();
  return 0;
}
