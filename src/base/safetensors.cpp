#include "base/safetensors.h"

#include <bit>
#include <cstring>
#include <numeric>

#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"

namespace nfscale {
namespace {

struct DtypeRow {
  Dtype dtype;
  const char* name;
  size_t size;
};
constexpr DtypeRow kDtypes[] = {
    {Dtype::f64, "F64", 8},   {Dtype::f32, "F32", 4}, {Dtype::f16, "F16", 2},
    {Dtype::bf16, "BF16", 2}, {Dtype::i64, "I64", 8}, {Dtype::i32, "I32", 4},
    {Dtype::u8, "U8", 1},
};
constexpr size_t kMaxHeader = 100'000'000;  // the limit of the reference implementation

Dtype dtype_of(const std::string& name) {
  for (const DtypeRow& row : kDtypes)
    if (name == row.name) return row.dtype;
  fail(Exit::usage, "dtype {} is not one of F64, F32, F16, BF16, I64, I32, U8", printable(name));
}

// A whole number of the header that must lie in 0..2^53.
int64_t extent(const Json& j, const char* what) {
  if (!j.is_int() || j.as_int() < 0)
    fail(Exit::usage, "{}: expected a whole number from 0, found {}", what, j.dump());
  return j.as_int();
}

TensorView read_tensor(const std::string& name, const Json& entry, std::span<const std::byte> data,
                       size_t& begin) {
  TensorView t;
  t.name = name;
  if (!is_utf8(name)) fail(Exit::usage, "the name is not UTF-8");
  t.dtype = dtype_of(entry.at("dtype").as_string());
  uint64_t size = dtype_size(t.dtype);
  for (const Json& side : entry.at("shape").items()) {
    t.shape.push_back(extent(side, "shape"));
    if (__builtin_mul_overflow(size, static_cast<uint64_t>(t.shape.back()), &size))
      fail(Exit::usage, "shape {} is larger than any file", entry.at("shape").dump());
  }
  const Json::Array& offsets = entry.at("data_offsets").items();
  if (offsets.size() != 2)
    fail(Exit::usage, "data_offsets: expected two numbers, found {}",
         entry.at("data_offsets").dump());
  begin = static_cast<size_t>(extent(offsets[0], "data_offsets"));
  const auto end = static_cast<size_t>(extent(offsets[1], "data_offsets"));
  if (begin > end || end > data.size())
    fail(Exit::usage, "data_offsets {} lie outside the {} bytes of data",
         entry.at("data_offsets").dump(), data.size());
  if (end - begin != size)
    fail(Exit::usage, "{} of {} needs {} bytes, its data_offsets hold {}", dtype_name(t.dtype),
         shape_text(t.shape), size, end - begin);
  t.bytes = data.subspan(begin, end - begin);
  return t;
}

void read_header(SafetensorsFile& file) {
  const std::span<const std::byte> bytes = file.mapped.bytes();
  if (bytes.size() < 8)
    fail(Exit::usage, "not safetensors: {} bytes, shorter than a header", bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeader || length > bytes.size() - 8)
    fail(Exit::usage, "not safetensors: a header of {} bytes in a file of {}", length,
         bytes.size());
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  const std::span<const std::byte> data = bytes.subspan(8 + length);
  const Json header = parse_json(text, "header");
  if (!header.is_object()) fail(Exit::usage, "the header is not an object");

  std::vector<std::pair<size_t, TensorView>> found;
  for (const auto& [name, entry] : header.members()) {
    try {
      if (name == "__metadata__") {
        for (const auto& [key, value] : entry.members()) file.metadata[key] = value.as_string();
      } else {
        size_t begin = 0;
        TensorView t = read_tensor(name, entry, data, begin);
        found.emplace_back(begin, std::move(t));
      }
    } catch (const Error& e) {
      fail(Exit::usage, "{}: {}", printable(name), e.what());
    }
  }
  // Empty tensors may share a place; among them the order of the header stays.
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second.bytes.size()) < std::pair(b.first, b.second.bytes.size());
  });
  size_t at = 0;
  for (auto& [begin, tensor] : found) {
    if (begin != at)
      fail(Exit::usage, "{}: {} bytes {} before it", printable(tensor.name),
           begin > at ? begin - at : at - begin,
           begin > at ? "belong to no tensor" : "overlap the tensor");
    at += tensor.bytes.size();
    file.tensors.push_back(std::move(tensor));
  }
  if (at != data.size()) fail(Exit::usage, "{} bytes after the last tensor", data.size() - at);
}

float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = h >> 10 & 0x1F, mantissa = h & 0x3FF;
  if (exponent == 0)
    return std::copysign(static_cast<float>(mantissa) * 0x1p-24f, std::bit_cast<float>(sign | 1u));
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

template <class T>
void widen(std::span<const std::byte> bytes, std::span<double> out, double (*convert)(T)) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = convert(value);
  }
}

}  // namespace

size_t dtype_size(Dtype dtype) {
  return kDtypes[static_cast<size_t>(dtype)].size;
}
std::string dtype_name(Dtype dtype) {
  return kDtypes[static_cast<size_t>(dtype)].name;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::vector<std::string> sides;
  for (const int64_t side : shape) sides.push_back(std::to_string(side));
  return "[" + join(sides, ", ") + "]";
}

int64_t TensorView::count() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

const TensorView* SafetensorsFile::find(const std::string& name) const {
  for (const TensorView& t : tensors)
    if (t.name == name) return &t;
  return nullptr;
}

std::vector<double> SafetensorsFile::numbers(const std::string& name) const {
  const TensorView* t = find(name);
  if (!t) fail(Exit::usage, "{}: the tensor {} is missing", path.string(), name);
  std::vector<double> values(static_cast<size_t>(t->count()));
  to_doubles(*t, values);
  return values;
}

const std::string& SafetensorsFile::meta(const std::string& key) const {
  const auto found = metadata.find(key);
  if (found == metadata.end())
    fail(Exit::usage, "{}: no \"{}\" in the metadata", path.string(), key);
  return found->second;
}

void to_doubles(const TensorView& t, std::span<double> out) {
  switch (t.dtype) {
    case Dtype::f64:
      return widen<double>(t.bytes, out, [](double v) { return v; });
    case Dtype::f32:
      return widen<float>(t.bytes, out, [](float v) { return static_cast<double>(v); });
    case Dtype::f16:
      return widen<uint16_t>(t.bytes, out,
                             [](uint16_t v) { return static_cast<double>(half_to_float(v)); });
    case Dtype::bf16:
      return widen<uint16_t>(t.bytes, out, [](uint16_t v) {
        return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(v) << 16));
      });
    default:
      fail(Exit::usage, "{}: expected floating-point numbers, found {}", t.name,
           dtype_name(t.dtype));
  }
}

SafetensorsFile read_safetensors(const Path& path) {
  SafetensorsFile file;
  file.path = path;
  file.mapped = MappedFile(path);
  try {
    read_header(file);
  } catch (const Error& e) {
    fail(e.code, "{}: {}", path.string(), e.what());
  }
  return file;
}

std::string write_safetensors(const Path& path, const std::map<std::string, std::string>& metadata,
                              const std::vector<TensorView>& tensors) {
  Json header = Json::object();
  if (!metadata.empty()) {
    Json meta = Json::object();
    for (const auto& [key, value] : metadata) meta.set(key, value);
    header.set("__metadata__", meta);
  }
  size_t at = 0;
  for (const TensorView& t : tensors) {
    header.set(t.name, Json::object(
                           {{"dtype", dtype_name(t.dtype)},
                            {"shape", Json(t.shape)},
                            {"data_offsets", Json::array({Json(at), Json(at + t.bytes.size())})}}));
    at += t.bytes.size();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const auto length = static_cast<uint64_t>(text.size());
  FileWriter writer(path);
  Hasher hasher;
  const auto put = [&](std::span<const std::byte> bytes) {
    writer.write(bytes);
    hasher.add(bytes);
  };
  put(std::as_bytes(std::span(&length, 1)));
  put(bytes_of(text));
  for (const TensorView& t : tensors) put(t.bytes);
  writer.commit();
  return hasher.digest();
}

}  // namespace nfscale
