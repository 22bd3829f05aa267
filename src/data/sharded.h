// Examples in shards, many to a file: what wds: and mds: have in common.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/file_range.h"
#include "data/source.h"

namespace nfscale {

struct ShardEntry {
  uint64_t offset = 0, key_at = 0;  // of the picture in the file, of the key in Shard::keys
  uint32_t length = 0, key_length = 0;
  int32_t label = 0;
};

struct Shard {
  std::string path;  // as the user knows it
  std::string file;  // where its bytes are read: `path`, or an unpacked copy
  FileIdentity identity;
  std::vector<ShardEntry> entries;
  std::string keys;  // of all entries, one after another
  std::vector<Problem> problems;

  void add(std::string_view key, uint64_t offset, uint32_t length, int64_t label);
  void problem(uint64_t offset, std::string_view key, std::string text);
};

// index(i) for every shard, side by side; what is thrown first, by number, is thrown on.
void index_shards(size_t count, const std::function<void(size_t)>& index);

// Picture of the bytes of an entry, where these are no encoded picture.
using PictureOf = Picture (*)(std::string_view stored);

class ShardedSource : public Source {
 public:
  // No `names`: classes are numbers, up to the largest label.
  ShardedSource(std::vector<Shard> shards, std::vector<std::string> names,
                PictureOf picture_of = nullptr);
  uint64_t size() const override { return ends_.empty() ? 0 : ends_.back(); }
  Example read(uint64_t i) const override;
  std::string key(uint64_t i) const override;
  int64_t label(uint64_t i) const override { return find_entry(i).second->label; }
  std::string fingerprint() const override;

 private:
  std::pair<const Shard*, const ShardEntry*> find_entry(uint64_t i) const;

  std::vector<Shard> shards_;
  std::vector<uint64_t> ends_;  // numbers of the examples behind each shard
  PictureOf picture_of_;
};

}  // namespace nfscale
