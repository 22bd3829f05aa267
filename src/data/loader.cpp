#include "data/loader.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "data/augment.h"
#include "data/decode.h"
#include "data/mix.h"

namespace nfscale {

Order order_of(const Source& source, const LoaderOptions& o) {
  return Order({.examples = source.size(),
                .seed = o.seed,
                .repeat = static_cast<uint32_t>(o.training ? o.data.augment.repeat : 1),
                .blocks = o.data.order == "blocks",
                .block = source.block(),
                .window = source.window()});
}

struct Loader::Ring {
  // A batch that is filled, full, or handed out.
  struct Place {
    Batch batch;
    int64_t left = 0;  // rows not filled yet
    std::exception_ptr error;
  };

  std::shared_ptr<const Source> source;
  LoaderOptions options;
  Normalisation normalise;
  uint64_t begin;
  int64_t rows;  // of this rank, fillers included

  std::mutex mutex;
  std::condition_variable_any room, full;
  std::vector<Place> places;
  uint64_t started = 0;   // batches whose slots are being given out, the last one partly
  int64_t next_slot = 0;  // of batch started - 1
  uint64_t handed = 0;    // batches that next() has returned,
  uint64_t released = 0;  // and those of them that nobody reads any more
  double waited = 0;
  std::vector<std::jthread> threads;

  Ring(std::shared_ptr<const Source> s, LoaderOptions o, uint64_t first)
      : source(std::move(s)), options(std::move(o)), normalise(options.data), begin(first) {
    NFSCALE_CHECK(options.rows >= 1 && options.size >= 1 && options.world >= 1 &&
                  options.rank >= 0 && options.rank < options.world);
    check_eval_crop(options.data.eval_crop);
    if (options.training) require_training_set(*source);
    if (!options.training && options.total_slots == 0) options.total_slots = source->size();
    rows = (options.rows + options.world - 1) / options.world;
    const int64_t row = options.size * options.size * 3;
    // Two batches keep the threads busy; more only smooth over slow reads, so they are cheap or not
    // there.
    const int64_t depth = std::clamp<int64_t>((int64_t{256} << 20) / (rows * row * 4), 2, 4);
    places.resize(static_cast<size_t>(depth));
    for (Place& p : places) {
      p.batch.pixels.resize(static_cast<size_t>(rows * row));
      p.batch.labels.resize(static_cast<size_t>(rows));
      p.batch.weights.resize(static_cast<size_t>(rows));
      if (mixing()) {
        p.batch.partners.resize(static_cast<size_t>(rows));
        p.batch.shares.resize(static_cast<size_t>(rows));
      }
      p.batch.rows = rows;
      p.batch.size = options.size;
    }
  }

  bool mixing() const { return options.training && mixes(options.data.augment); }

  Place& place(uint64_t batch) { return places[batch % places.size()]; }

  // Slots of this rank in batch b.
  std::pair<uint64_t, uint64_t> slots_of(uint64_t b) const {
    const uint64_t step = static_cast<uint64_t>(options.rows), total = options.total_slots;
    const uint64_t first = std::min(total, begin + b * step), last = std::min(total, first + step);
    return rank_slice(first, last, static_cast<uint64_t>(options.rank),
                      static_cast<uint64_t>(options.world));
  }

  // Makes the next batch ready to be filled. The mutex is held.
  void start_batch() {
    Place& p = place(started);
    const auto [first, last] = slots_of(started);
    p.error = nullptr;
    p.left = static_cast<int64_t>(last - first);
    Batch& b = p.batch;
    b.begin = first;
    b.repeat = static_cast<uint32_t>(options.training ? options.data.augment.repeat : 1);
    b.count = p.left;
    b.slots.assign(static_cast<size_t>(b.count), {});
    b.broken.clear();
    std::fill(b.labels.begin() + b.count, b.labels.end(), 0);
    std::fill(b.weights.begin() + b.count, b.weights.end(), 0.0f);
    std::fill(b.partners.begin(), b.partners.end(), 0);
    std::fill(b.shares.begin(), b.shares.end(), 1.0f);
    std::fill(b.pixels.begin() + b.count * options.size * options.size * 3, b.pixels.end(), 0.0f);
    next_slot = 0;
    ++started;
  }

  // A few neighbouring slots of one batch, so that the copies of a picture are decoded once.
  struct Work {
    Place* place = nullptr;
    int64_t begin = 0, end = 0;
  };

  bool more_slots() { return started > 0 && next_slot < place(started - 1).batch.count; }
  bool more_batches() { return !behind_end(started) && started < released + places.size(); }
  bool behind_end(uint64_t b) const {
    return begin + b * static_cast<uint64_t>(options.rows) >= options.total_slots;
  }

  // Waits for something to do; no place when the loader ends.
  Work take(const std::stop_token& stop) {
    std::unique_lock lock(mutex);
    for (;;) {
      if (!room.wait(lock, stop, [&] { return more_slots() || more_batches(); })) return {};
      if (stop.stop_requested()) return {};
      if (!more_slots()) {
        start_batch();
        room.notify_all();
        full.notify_all();  // this rank's part may be empty
        continue;
      }
      Place& p = place(started - 1);
      const int64_t repeat = options.training ? options.data.augment.repeat : 1;
      // Both pictures of a pair are decoded by one thread.
      const int64_t some = std::max<int64_t>(repeat, 1) * (mixing() ? 2 : 1);
      const int64_t end = std::min(p.batch.count, next_slot + some);
      const Work work = {&p, next_slot, end};
      next_slot = end;
      return work;
    }
  }

  // An example that this thread has decoded.
  struct Loaded {
    std::optional<uint64_t> number;
    Example example;
    Decoded decoded;
  };
  // The last two: those of a pair.
  struct Last {
    std::array<Loaded, 2> pair;
    size_t newest = 0;
  };

  const Loaded& load(uint64_t number, Last& both) const {
    for (const size_t i : {both.newest, 1 - both.newest})
      if (both.pair[i].number == number) {
        both.newest = i;
        return both.pair[i];
      }
    both.newest = 1 - both.newest;
    Loaded& last = both.pair[both.newest];
    last.number.reset();
    last.example = source->read(number);
    if (last.example.picture) {
      last.decoded.picture = std::move(*last.example.picture);
      last.decoded.broken.clear();
    } else {
      last.decoded = decode(last.example.bytes, DecodeOptions(options.data));
    }
    last.number = number;
    return last;
  }

  int64_t label_of(const Example& example) const {
    return options.label_map.empty() ? example.label
                                     : options.label_map.at(static_cast<size_t>(example.label));
  }

  // Fills the row of the i-th slot; returns why its picture is broken, or nothing.
  std::optional<Broken> fill(Batch& batch, int64_t i, Order& order, Last& last) const {
    const uint64_t slot = batch.begin + static_cast<uint64_t>(i);
    const Slot s = options.training ? order.at(slot) : Slot{0, slot, 0};
    const int64_t r = batch.row_of(i);
    const auto at = static_cast<size_t>(r);
    const int64_t values = options.size * options.size * 3;
    float* row = batch.pixels.data() + r * values;
    const auto leave_out = [&] {
      batch.weights[at] = 0;
      std::fill_n(row, values, 0.0f);
    };
    const Loaded& own = load(s.example, last);
    batch.slots[static_cast<size_t>(i)] = s;
    batch.labels[at] = label_of(own.example);
    if (!own.decoded.broken.empty()) {
      leave_out();
      return Broken{own.example.key, own.example.file, own.decoded.broken, own.example.offset,
                    slot};
    }
    batch.weights[at] = 1;
    if (!options.training) {
      normalise.apply(evaluation_crop(own.decoded.picture, options.data.eval_crop, options.size),
                      row);
      return std::nullopt;
    }
    const auto repeat = static_cast<uint32_t>(options.data.augment.repeat);
    const auto pair = mixing() ? partner_of(slot, source->size(), repeat) : std::nullopt;
    if (!pair) {
      training_row(own.decoded.picture, options.data, normalise, options.seed, s, options.size,
                   row);
      return std::nullopt;
    }
    const Slot other_slot = order.at(*pair);
    const Loaded& other = load(other_slot.example, last);
    if (!other.decoded.broken.empty()) {
      leave_out();
      return std::nullopt;  // counted at its own slot
    }
    const Mix mix = draw_mix(options.data.augment, options.seed, s, options.size);
    mixed_row(own.decoded.picture, s, other.decoded.picture, other_slot, mix, options.data,
              normalise, options.seed, options.size, row);
    batch.partners[at] = label_of(other.example);
    batch.shares[at] = static_cast<float>(mix.share);
    return std::nullopt;
  }

  void work(const std::stop_token& stop) {
    Order order = order_of(*source, options);
    Last last;
    for (Work w = take(stop); w.place; w = take(stop)) {
      std::vector<Broken> broken;
      std::exception_ptr error;
      try {
        for (int64_t i = w.begin; i < w.end; ++i)
          if (auto why = fill(w.place->batch, i, order, last)) broken.push_back(std::move(*why));
        if (!broken.empty() && options.data.on_broken == "error")
          fail(Exit::damaged, "{}: {} at byte {}: {}", broken[0].file, broken[0].key,
               broken[0].offset, broken[0].reason);
      } catch (...) {
        error = std::current_exception();
      }
      const std::lock_guard lock(mutex);
      auto& all = w.place->batch.broken;
      all.insert(all.end(), std::make_move_iterator(broken.begin()),
                 std::make_move_iterator(broken.end()));
      if (error && !w.place->error) w.place->error = error;
      w.place->left -= w.end - w.begin;
      if (w.place->left == 0) full.notify_all();
    }
  }

  const Batch& next() {
    const auto before = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex);
    const uint64_t number = handed;
    released = number;
    room.notify_all();
    if (behind_end(number)) {
      Batch& b = place(number).batch;
      b.begin = options.total_slots;
      b.count = 0;
      b.slots.clear();
      b.broken.clear();
      std::fill(b.weights.begin(), b.weights.end(), 0.0f);
      return b;
    }
    full.wait(lock, [&] { return started > number && place(number).left == 0; });
    Place& p = place(number);
    ++handed;
    waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
    std::sort(p.batch.broken.begin(), p.batch.broken.end(),
              [](const Broken& a, const Broken& b) { return a.slot < b.slot; });
    if (p.error) std::rethrow_exception(p.error);
    return p.batch;
  }

  const Batch* ready() {
    const std::lock_guard lock(mutex);
    if (started <= handed) return nullptr;
    const Place& p = place(handed);
    return p.left == 0 && !p.error ? &p.batch : nullptr;
  }
};

int64_t Batch::row_of(int64_t i) const {
  const int64_t copies = repeat, copy = i % copies, whole = count / copies;
  return copy * whole + std::min(copy, count % copies) + i / copies;
}

std::vector<uint64_t> Batch::slots_of_rows() const {
  std::vector<uint64_t> all(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    all[static_cast<size_t>(row_of(i))] = begin + static_cast<uint64_t>(i);
  return all;
}

LoaderOptions training_options(const Config& config, int threads, uint64_t total_slots) {
  LoaderOptions o;
  o.seed = static_cast<uint64_t>(config.train.seed);
  o.rows = config.train.batch;
  o.size = config.train.image_size;
  o.total_slots = total_slots;
  o.threads =
      config.data.threads ? static_cast<int>(config.data.threads) : std::max(1, threads / 2);
  o.data = config.data;
  return o;
}

Loader::Loader(std::shared_ptr<const Source> source, LoaderOptions options, uint64_t begin)
    : ring_(std::make_unique<Ring>(std::move(source), std::move(options), begin)) {
  Ring& ring = *ring_;
  for (int i = 0; i < std::max(1, ring.options.threads); ++i)
    ring.threads.emplace_back([&ring](const std::stop_token& stop) { ring.work(stop); });
}

Loader::~Loader() {
  for (auto& thread : ring_->threads) thread.request_stop();
  ring_->threads.clear();  // joins, before the mutex goes
}

const Batch& Loader::next() {
  return ring_->next();
}

const Batch* Loader::ready() const {
  return ring_->ready();
}

double Loader::waited_s() const {
  const std::lock_guard lock(ring_->mutex);
  return ring_->waited;
}

void DamageCount::add(uint64_t of_epoch, uint64_t more_seen, uint64_t more_broken,
                      double max_damage) {
  if (of_epoch != epoch) *this = {.epoch = of_epoch};
  seen += more_seen;
  broken += more_broken;
  if (seen >= 1000 && static_cast<double>(broken) > max_damage * static_cast<double>(seen))
    fail(Exit::damaged,
         "data.max_damage: {} of {} pictures of epoch {} are broken, {} of them are allowed",
         broken, seen, epoch, max_damage);
}

void DamageCount::add(const Batch& batch, double max_damage) {
  auto next = batch.broken.begin();
  for (size_t i = 0; i < batch.slots.size(); ++i) {
    const bool is = next != batch.broken.end() && next->slot == batch.begin + i;
    add(batch.slots[i].epoch, 1, is, max_damage);
    next += is;
  }
}

}  // namespace nfscale
