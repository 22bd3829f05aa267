// The headers of a tar file: USTAR, PAX (x and g), GNU (long names, base-256 sizes).
//
// A reader walks from header to header and never reads what lies between, except names in extended
// headers. What it returns lies within the file; nothing is allocated by a declared size alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "data/file_range.h"

namespace nfscale {

struct TarMember {
  enum class Kind { file, folder, link, sparse, device };
  Kind kind = Kind::file;
  std::string name;     // bytes, as stored
  uint64_t header = 0;  // where its first header begins
  uint64_t offset = 0, size = 0;
};

class TarReader {
 public:
  TarReader(uint64_t file_size, ReadAt read);

  // The next member; nothing at the end, or where the file is damaged (see fault()).
  std::optional<TarMember> next();

  struct Fault {
    uint64_t offset = 0;
    std::string member, text;
  };
  const std::optional<Fault>& fault() const { return fault_; }
  bool missing_end() const { return missing_end_; }  // no end-of-archive block: worth a warning

 private:
  // From extended headers: for the next member, or for all that follow.
  struct Extended {
    std::optional<std::string> name;
    std::optional<uint64_t> size;
    bool sparse = false;
  };
  std::nullopt_t stop(uint64_t offset, std::string member, std::string text);
  bool read_pax(const TarMember& header, Extended& into);
  bool end_is_clean();

  uint64_t size_;
  ReadAt read_;
  uint64_t at_ = 0;
  bool done_ = false, missing_end_ = false;
  Extended global_;
  std::optional<Fault> fault_;
};

}  // namespace nfscale
