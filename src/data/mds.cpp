#include "data/mds.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "data/decode.h"

namespace nfscale {
namespace {

// Little-endian; at most 8 bytes.
uint64_t number_at(std::string_view bytes, size_t at, size_t count) {
  uint64_t number = 0;
  for (size_t k = count; k-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[at + k]);
  return number;
}

uint64_t count_of(const Json& j, std::string_view key) {
  const int64_t value = j.at(key).as_int();
  if (value < 0) fail(Exit::usage, "{}: {} is negative", key, value);
  return static_cast<uint64_t>(value);
}

std::string file_name(const Json& j) {
  const std::string& name = j.at("basename").as_string();
  const std::filesystem::path path(name);
  if (name.empty() || path.is_absolute() || name.find('\0') != std::string::npos ||
      std::find(path.begin(), path.end(), "..") != path.end())
    fail(Exit::usage, "basename: expected the name of a file within the folder, found \"{}\"",
         printable(name));
  return path.lexically_normal().string();
}

std::vector<MdsColumn> columns_of(const Json& j) {
  const auto& names = j.at("column_names").items();
  const auto& encodings = j.at("column_encodings").items();
  const auto& sizes = j.at("column_sizes").items();
  if (names.empty() || names.size() != encodings.size() || names.size() != sizes.size())
    fail(Exit::usage, "{} column_names, {} column_encodings, {} column_sizes", names.size(),
         encodings.size(), sizes.size());
  std::vector<MdsColumn> columns;
  for (size_t c = 0; c < names.size(); ++c) {
    MdsColumn column{names[c].as_string(), encodings[c].as_string(), std::nullopt};
    if (!sizes[c].is_null()) {
      const int64_t size = sizes[c].as_int();
      if (size < 0 || size > std::numeric_limits<uint32_t>::max())
        fail(Exit::usage, "column_sizes: {} is not a number of 32 bits", size);
      column.size = static_cast<uint32_t>(size);
    }
    const auto needed = mds_integer_size(column.encoding);
    if (needed && column.size != needed)
      fail(Exit::usage, "column_sizes: {} of encoding {} has {} bytes, expected {}",
           printable(column.name), column.encoding,
           column.size ? std::to_string(*column.size) : "any number of", *needed);
    columns.push_back(std::move(column));
  }
  return columns;
}

MdsShard shard_of(const Json& j) {
  if (j.at("version").as_int() != 2 || j.at("format").as_string() != "mds")
    fail(Exit::usage, "format {} of version {}; only mds of version 2 is read",
         printable(j.at("format").as_string()), j.at("version").as_int());
  MdsShard s;
  s.samples = count_of(j, "samples");
  s.columns = columns_of(j);
  const Json& raw = j.at("raw_data");
  s.name = file_name(raw);
  s.bytes = count_of(raw, "bytes");
  if (s.bytes > std::numeric_limits<uint32_t>::max())
    fail(Exit::usage, "raw_data: {} bytes are beyond its offsets of 32 bits", s.bytes);
  if (const Json* hashes = raw.find("hashes"))
    for (const auto& [algorithm, digits] : hashes->members())
      s.hashes.emplace_back(algorithm, digits.as_string());
  if (const Json* packed = j.find("zip_data"); packed != nullptr && !packed->is_null()) {
    s.compression = j.at("compression").as_string();
    s.packed = file_name(*packed);
    s.packed_bytes = count_of(*packed, "bytes");
  }
  return s;
}

}  // namespace

std::vector<MdsShard> parse_mds_index(std::string_view text, std::string_view where) {
  const Json index = parse_json(text, where);
  std::vector<MdsShard> shards;
  std::set<std::string> names;
  std::string place;
  try {
    if (const int64_t version = index.at("version").as_int(); version != 2)
      fail(Exit::usage, "version {} is not read, only 2", version);
    for (const Json& j : index.at("shards").items()) {
      place = fmt::format(": shards[{}]", shards.size());
      shards.push_back(shard_of(j));
      for (const std::string& name : {shards.back().name, shards.back().packed})
        if (!name.empty() && !names.insert(name).second)
          fail(Exit::usage, "{} comes twice", printable(name));
      if (shards.back().columns != shards.front().columns)
        fail(Exit::usage, "its columns are not those of the first shard");
    }
  } catch (const Error& e) {
    fail(e.code, "{}{}: {}", where, place, e.what());
  }
  return shards;
}

MdsReader::MdsReader(const MdsShard& shard, uint64_t file_size, ReadAt read)
    : shard_(shard), file_size_(file_size), read_(std::move(read)) {
  read_head();
}

void MdsReader::read_head() {
  if (file_size_ != shard_.bytes)
    return stop(0, fmt::format("{} bytes, index.json says {}", file_size_, shard_.bytes));
  const std::string_view count = read_(0, 4);
  if (count.size() < 4) return stop(0, "ends inside its head");
  const uint64_t samples = number_at(count, 0, 4);
  if (samples != shard_.samples)
    return stop(0, fmt::format("{} samples, index.json says {}", samples, shard_.samples));
  const uint64_t begin = 4 + 4 * (samples + 1);
  if (begin > file_size_)
    return stop(4, fmt::format("{} samples need a head of {} bytes", samples, begin));
  const std::string_view table = read_(4, static_cast<size_t>(begin - 4));
  if (table.size() != begin - 4) return stop(4, "ends inside its head");
  for (uint64_t i = 0; i <= samples; ++i) {
    const auto offset = static_cast<uint32_t>(number_at(table, 4 * i, 4));
    const uint64_t least = i > 0 ? offsets_.back() : begin;
    if (offset < least || offset > file_size_)
      return stop(4 + 4 * i, fmt::format("the offset of {} is {}, expected {} to {}",
                                         i < samples ? fmt::format("sample {}", i) : "its end",
                                         offset, least, file_size_));
    offsets_.push_back(offset);
  }
  if (offsets_.back() != file_size_)
    return stop(4 + 4 * samples, fmt::format("its samples end at byte {}, the file has {}",
                                             offsets_.back(), file_size_));
  check_header(begin);
}

void MdsReader::stop(uint64_t offset, std::string text) {
  fault_ = Fault{offset, std::move(text)};
  offsets_.assign(1, 0);
}

void MdsReader::check_header(uint64_t begin) {
  constexpr uint64_t most = 1 << 20;
  const uint64_t length = offsets_.front() - begin;
  if (length > most) return stop(begin, fmt::format("a header of {} bytes", length));
  try {
    const std::string_view header = read_(begin, static_cast<size_t>(length));
    if (columns_of(parse_json(header, "its header")) != shard_.columns)
      return stop(begin, "its header names other columns than index.json");
  } catch (const Error& e) {
    stop(begin, e.what());
  }
}

std::variant<std::vector<MdsReader::Value>, std::string> MdsReader::sample(uint64_t i) const {
  const uint64_t begin = offset(i), end = offset(i + 1);
  const auto varying = static_cast<uint64_t>(std::count_if(
      shard_.columns.begin(), shard_.columns.end(), [](const auto& c) { return !c.size; }));
  const std::string_view sizes = read_(begin, static_cast<size_t>(4 * varying));
  if (4 * varying > end - begin || sizes.size() < 4 * varying)
    return fmt::format("{} bytes, too few for the sizes of its values", end - begin);
  std::vector<Value> values;
  uint64_t at = begin + 4 * varying;
  size_t next = 0;
  for (const MdsColumn& column : shard_.columns) {
    const uint64_t length = column.size ? *column.size : number_at(sizes, 4 * next++, 4);
    if (length > end - at)
      return fmt::format("{} of {} bytes goes beyond its end at byte {}", printable(column.name),
                         length, end);
    values.push_back({at, static_cast<uint32_t>(length)});
    at += length;
  }
  if (at != end)
    return fmt::format("its values end at byte {}, the next sample begins at {}", at, end);
  return values;
}

std::optional<uint32_t> mds_integer_size(const std::string& encoding) {
  if (encoding == "int" || encoding == "int64" || encoding == "uint64") return 8;
  if (encoding == "int32" || encoding == "uint32") return 4;
  if (encoding == "int16" || encoding == "uint16") return 2;
  if (encoding == "int8" || encoding == "uint8") return 1;
  return std::nullopt;
}

std::optional<int64_t> mds_integer(const std::string& encoding, std::string_view bytes) {
  const auto size = mds_integer_size(encoding);
  if (!size || bytes.size() != *size) return std::nullopt;
  const uint64_t number = number_at(bytes, 0, *size);
  if (encoding[0] == 'u')
    return number >> 63 ? std::nullopt : std::optional(static_cast<int64_t>(number));
  const unsigned unused = 64 - 8 * *size;
  return static_cast<int64_t>(number << unused) >> unused;
}

namespace {

struct PilHead {
  uint32_t width = 0, height = 0;
  size_t channels = 0, pixels_at = 0;
  std::string fault;
};

PilHead pil_head(std::string_view head, uint64_t length) {
  PilHead h;
  const uint64_t mode_length = head.size() < 12 ? 0 : number_at(head, 8, 4);
  if (head.size() < 12 + std::min<uint64_t>(mode_length, 4)) {
    h.fault = fmt::format("bad-header: a picture of {} bytes", length);
    return h;
  }
  h.width = static_cast<uint32_t>(number_at(head, 0, 4));
  h.height = static_cast<uint32_t>(number_at(head, 4, 4));
  const std::string_view mode =
      head.substr(12, static_cast<size_t>(std::min<uint64_t>(mode_length, 4)));
  h.channels = mode == "RGB" ? 3 : mode == "RGBA" ? 4 : mode == "L" ? 1 : 0;
  h.pixels_at = 12 + mode.size();
  if (mode_length > 4 || h.channels == 0) {
    h.fault = fmt::format("unsupported: a picture of mode \"{}\"; RGB, RGBA and L are read",
                          printable(mode));
    return h;
  }
  h.fault = size_fault(h.width, h.height, {});
  const uint64_t expected = h.pixels_at + uint64_t{h.width} * h.height * h.channels;
  if (h.fault.empty() && expected != length)
    h.fault = fmt::format("truncated: {} x {} pixels of mode {} need {} bytes, there are {}",
                          h.width, h.height, mode, expected, length);
  return h;
}

}  // namespace

std::string mds_pil_fault(std::string_view head, uint64_t length) {
  return pil_head(head, length).fault;
}

Picture mds_pil_picture(std::string_view bytes) {
  const PilHead h = pil_head(bytes, bytes.size());
  NFSCALE_CHECK(h.fault.empty());
  Picture picture(h.width, h.height);
  for (size_t k = 0; k < picture.rgb.size(); ++k) {
    const size_t channel = h.channels == 1 ? 0 : k % 3;
    picture.rgb[k] = static_cast<uint8_t>(bytes[h.pixels_at + k / 3 * h.channels + channel]);
  }
  return picture;
}

}  // namespace nfscale
