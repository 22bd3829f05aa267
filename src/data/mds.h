// The format of MosaicML's Streaming, version 2 ("mds"), as its writer makes it. A folder holds
// index.json and shards; all numbers are little-endian. A shard is: the count of samples n (u32),
// n + 1 offsets (u32), a JSON header, then the samples. A sample is the sizes (u32) of those of its
// columns that vary, then the values of all columns.
//
// What is returned lies within the file; nothing is allocated by a declared size alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "data/file_range.h"
#include "data/picture.h"

namespace nfscale {

struct MdsColumn {
  std::string name, encoding;
  std::optional<uint32_t> size;  // bytes; unset: every sample has its own
  bool operator==(const MdsColumn&) const = default;
};

struct MdsShard {
  std::string name;    // within the folder
  uint64_t bytes = 0;  // of that file
  std::string packed;  // the name of the same, compressed; empty: there is none
  std::string compression;
  uint64_t packed_bytes = 0;
  uint64_t samples = 0;
  std::vector<MdsColumn> columns;                           // in the order of their values
  std::vector<std::pair<std::string, std::string>> hashes;  // (algorithm, hexadecimal digits)
};

// Exit::usage with "WHERE: ..." for what is not such an index, and for names that lead out of the
// folder.
std::vector<MdsShard> parse_mds_index(std::string_view text, std::string_view where);

// Places of the values of a shard.
class MdsReader {
 public:
  struct Value {
    uint64_t offset = 0;
    uint32_t length = 0;
  };
  struct Fault {
    uint64_t offset = 0;
    std::string text;
  };

  // Reads the offsets; what is wrong with them is in fault(), and then nothing else may be asked.
  MdsReader(const MdsShard& shard, uint64_t file_size, ReadAt read);
  const std::optional<Fault>& fault() const { return fault_; }

  uint64_t samples() const { return offsets_.size() - 1; }
  uint64_t offset(uint64_t i) const { return offsets_.at(i); }
  // A value for each column of the i-th sample, or what is wrong with it.
  std::variant<std::vector<Value>, std::string> sample(uint64_t i) const;

 private:
  void read_head();
  void check_header(uint64_t begin);
  void stop(uint64_t offset, std::string text);

  const MdsShard& shard_;
  uint64_t file_size_;
  ReadAt read_;
  std::vector<uint32_t> offsets_;  // of the samples, and where the last one ends
  std::optional<Fault> fault_;
};

// A whole number as a column of that encoding ("int", "int8" to "int64", "uint8" to "uint64")
// stores it; nothing for other encodings and lengths, and beyond int64.
std::optional<int64_t> mds_integer(const std::string& encoding, std::string_view bytes);
// Bytes of a number of that encoding; nothing where it is no whole number.
std::optional<uint32_t> mds_integer_size(const std::string& encoding);

// A column "pil": width, height, length of the mode (u32 each), the mode, pixels. RGB, RGBA
// (without its alpha) and L (gray) are read. What is wrong with such a value of `length` bytes
// whose first kMdsPilHead bytes, or all, are `head`; empty if nothing.
std::string mds_pil_fault(std::string_view head, uint64_t length);
// The picture of a value without fault.
Picture mds_pil_picture(std::string_view value);
inline constexpr size_t kMdsPilHead = 16;

}  // namespace nfscale
