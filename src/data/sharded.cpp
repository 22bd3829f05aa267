#include "data/sharded.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include "base/hash.h"
#include "data/spec.h"

namespace nfscale {
namespace {

std::string_view key_of(const Shard& s, const ShardEntry& e) {
  return std::string_view(s.keys).substr(e.key_at, e.key_length);
}

}  // namespace

void Shard::add(std::string_view key, uint64_t offset, uint32_t length, int64_t label) {
  entries.push_back({.offset = offset,
                     .key_at = keys.size(),
                     .length = length,
                     .key_length = static_cast<uint32_t>(key.size()),
                     .label = static_cast<int32_t>(label)});
  keys += key;
}

void Shard::problem(uint64_t offset, std::string_view key, std::string text) {
  problems.push_back({path, std::string(key), std::move(text), offset});
}

void index_shards(size_t count, const std::function<void(size_t)>& index) {
  std::atomic<size_t> next = 0;
  std::vector<std::exception_ptr> errors(count);
  {
    std::vector<std::jthread> threads;
    const size_t most = std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
    for (size_t t = 0; t < std::min(count, most); ++t)
      threads.emplace_back([&] {
        for (size_t i = next++; i < count; i = next++) {
          try {
            index(i);
          } catch (...) {
            errors[i] = std::current_exception();
          }
        }
      });
  }
  for (const auto& error : errors)
    if (error) std::rethrow_exception(error);
}

ShardedSource::ShardedSource(std::vector<Shard> shards, std::vector<std::string> names,
                             PictureOf picture_of)
    : shards_(std::move(shards)), picture_of_(picture_of) {
  int64_t labels = 0;
  for (const Shard& s : shards_) {
    ends_.push_back((ends_.empty() ? 0 : ends_.back()) + s.entries.size());
    for (const ShardEntry& e : s.entries) labels = std::max<int64_t>(labels, e.label + 1);
  }
  named_ = !names.empty();
  classes_ = named_ ? std::move(names) : numbers_as_names(labels);
}

Example ShardedSource::read(uint64_t i) const {
  const auto [s, e] = find_entry(i);
  Example example{.key = std::string(key_of(*s, *e)),
                  .label = e->label,
                  .bytes = read_range(s->file, s->identity, e->offset, e->length),
                  .picture = {},
                  .file = s->path,
                  .offset = e->offset};
  if (picture_of_ != nullptr) {
    example.picture = picture_of_(example.bytes);
    example.bytes.clear();
  }
  return example;
}

std::string ShardedSource::key(uint64_t i) const {
  const auto [s, e] = find_entry(i);
  return std::string(key_of(*s, *e));
}

std::string ShardedSource::fingerprint() const {
  Hasher hasher;
  for (const Shard& s : shards_)
    for (const ShardEntry& e : s.entries) {
      hasher.add(hash64(key_of(s, e)));
      hasher.add(static_cast<uint64_t>(e.label));
      hasher.add(uint64_t{e.length});
    }
  return hasher.digest();
}

std::pair<const Shard*, const ShardEntry*> ShardedSource::find_entry(uint64_t i) const {
  const auto at =
      static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), i) - ends_.begin());
  NFSCALE_CHECK(at < shards_.size());
  return {&shards_[at], &shards_[at].entries[i - (at ? ends_[at - 1] : 0)]};
}

}  // namespace nfscale
