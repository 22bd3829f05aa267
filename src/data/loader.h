// Batches of slots, read ahead by threads.
//
// Row r of a batch is a pure function of (seed, slot): threads share a counter of rows to fill and
// a ring of batches to fill them in, nothing else. No order, queue or buffer exists that a restart
// could lose; a loader that begins at slot g gives what any other gives from g on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "data/order.h"
#include "data/source.h"

namespace nfscale {

// A picture that could not be decoded; its slot is kept with weight 0.
struct Broken {
  std::string key, file, reason;
  uint64_t offset = 0, slot = 0;
};

struct Batch {
  uint64_t begin = 0;   // the first slot of this rank's part
  uint32_t repeat = 1;  // copies of a picture, which come one after the other as slots
  int64_t count = 0;    // slots applied; rows beyond are fillers of weight 0
  int64_t rows = 0, size = 0;
  std::vector<float> pixels;  // rows * size * size * 3, channel last, normalised; broken: 0
  std::vector<int64_t> labels;
  std::vector<float> weights;  // 1, or 0 for broken pictures and fillers
  // Where pictures are mixed: the label of the partner, and the part of the own one; else empty.
  std::vector<int64_t> partners;
  std::vector<float> shares;
  std::vector<Slot> slots;     // count of them, in their order
  std::vector<Broken> broken;  // in the order of their slots

  // The row of slot begin + i. Rows are ordered by copy, then by picture, so that any range of them
  // holds as many different pictures as it can: those that climb with sharpness-aware minimisation
  // do (Smith et al., arXiv 2310.16764, section 4, use both).
  int64_t row_of(int64_t i) const;
  // The slot of each of the `count` rows.
  std::vector<uint64_t> slots_of_rows() const;
};

struct LoaderOptions {
  uint64_t seed = 0;
  int64_t rows = 1;  // slots of a step, over all ranks
  int64_t size = 224;
  uint64_t total_slots = 0;  // the last batch ends there; 0 in evaluation: all examples
  bool training = true;      // false: source order, each example once, evaluation crop
  int threads = 1;
  DataConfig data;
  // Ranks take contiguous parts of each step (rank_slice); rows is the same on all of them.
  int rank = 0, world = 1;
  std::vector<int64_t> label_map;  // of match_classes(); empty keeps the source's labels
};

// Which example each slot of a loader holds.
Order order_of(const Source& source, const LoaderOptions& options);

// Of a training run; `threads` are those of the whole process, of which pictures get half.
LoaderOptions training_options(const Config& config, int threads, uint64_t total_slots);

class Loader {
 public:
  // Starts the threads at slot `begin`. Exit::usage as require_training_set's in training.
  Loader(std::shared_ptr<const Source> source, LoaderOptions options, uint64_t begin);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next batch, valid until the next call; count is 0 behind the last slot. Throws a worker's
  // Error, in the place where the batch would have been: what comes before it is delivered.
  const Batch& next();

  // What next() would return, where it is ready already; else null. Valid for as long as what
  // next() returns then.
  const Batch* ready() const;

  double waited_s() const;  // how long next() had to wait, in all

 private:
  struct Ring;
  std::unique_ptr<Ring> ring_;
};

// Broken pictures of the current epoch: judged from 1,000 slots on. Part of a run's state, so that
// a restart does not begin to count anew.
struct DamageCount {
  uint64_t epoch = 0, seen = 0, broken = 0;
  // Exit::damaged with the share where it is above `max_damage`. Slots must come in order.
  void add(uint64_t of_epoch, uint64_t more_seen, uint64_t more_broken, double max_damage);
  void add(const Batch& batch, double max_damage);
  bool operator==(const DamageCount&) const = default;
};

}  // namespace nfscale
