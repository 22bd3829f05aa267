#include <fmt/format.h>

#include "base/hash.h"
#include "base/text.h"
#include "data/fractal.h"
#include "data/spec.h"

namespace nfscale {
namespace {

// Example i is picture i / classes of class i mod classes.
class FractalSource : public Source {
 public:
  FractalSource(uint64_t seed, uint64_t classes, uint64_t first, uint64_t per_class, int64_t size)
      : seed_(seed), first_(first), per_class_(per_class), side_(size) {
    classes_ = numbers_as_names(static_cast<int64_t>(classes));
    for (uint64_t c = 0; c < classes; ++c) systems_.push_back(fractal_system(seed, c));
  }
  uint64_t size() const override { return systems_.size() * per_class_; }
  Example read(uint64_t i) const override {
    const uint64_t c = i % systems_.size();
    return {.key = key(i),
            .label = label(i),
            .bytes = {},
            .picture = draw_fractal(systems_[c], seed_, c, number(i), side_),
            .file = "fractal:",
            .offset = i};
  }
  std::string key(uint64_t i) const override {
    return fmt::format("{}/{}", i % systems_.size(), number(i));
  }
  int64_t label(uint64_t i) const override { return static_cast<int64_t>(i % systems_.size()); }
  std::string fingerprint() const override {
    return hash128(fmt::format("fractal classes={} per_class={} first={} size={} seed={}",
                               systems_.size(), per_class_, first_, side_, seed_));
  }

 private:
  uint64_t number(uint64_t i) const { return first_ + i / systems_.size(); }

  uint64_t seed_, first_, per_class_;
  int64_t side_;
  std::vector<FractalSystem> systems_;
};

}  // namespace

std::shared_ptr<Source> open_fractal(Spec& spec) {
  if (!spec.path.empty())
    fail(Exit::usage, "{}: fractal: reads no file, found \"{}\"", printable(spec.whole),
         printable(spec.path));
  const bool heldout = spec.word("split", {"train", "heldout"}) == "heldout";
  const auto classes = static_cast<uint64_t>(spec.integer("classes", 1000, 2, 10000)),
             per_class = static_cast<uint64_t>(
                 spec.integer("per_class", heldout ? 10 : 100, 1, int64_t{1} << 23)),
             seed = static_cast<uint64_t>(spec.integer("seed", 0, 0, INT64_MAX));
  const int64_t size = spec.integer("size", 256, 8, 512);
  spec.refuse_unknown();
  return std::make_shared<FractalSource>(seed, classes, heldout ? kFractalHeldout : 0, per_class,
                                         size);
}

}  // namespace nfscale
