#include <fmt/format.h>

#include "base/hash.h"
#include "base/text.h"
#include "data/shapes.h"
#include "data/spec.h"

namespace nfscale {
namespace {

class ShapesSource : public Source {
 public:
  ShapesSource(const ShapesOptions& options, uint64_t first, uint64_t count)
      : options_(options), first_(first), count_(count) {
    classes_ = numbers_as_names(options.classes);
  }
  uint64_t size() const override { return count_; }
  Example read(uint64_t i) const override {
    return {.key = key(i),
            .label = label(i),
            .bytes = {},
            .picture = draw_shapes(options_, first_ + i),
            .file = "shapes:",
            .offset = first_ + i};
  }
  std::string key(uint64_t i) const override { return std::to_string(first_ + i); }
  int64_t label(uint64_t i) const override { return shapes_label(options_, first_ + i).label; }
  std::optional<uint64_t> find(std::string_view wanted) const override {
    const auto number = parse_int(wanted);
    if (!number || static_cast<uint64_t>(*number) - first_ >= count_) return std::nullopt;
    return static_cast<uint64_t>(*number) - first_;
  }
  std::string fingerprint() const override {
    return hash128(
        fmt::format("shapes classes={} size={} clutter={} noise={} seed={} first={} "
                    "count={}",
                    options_.classes, options_.size, options_.clutter, options_.noise,
                    options_.seed, first_, count_));
  }

 private:
  ShapesOptions options_;
  uint64_t first_, count_;
};

}  // namespace

std::shared_ptr<Source> open_shapes(Spec& spec) {
  if (!spec.path.empty())
    fail(Exit::usage, "{}: shapes: reads no file, found \"{}\"", printable(spec.whole),
         printable(spec.path));
  const bool heldout = spec.word("split", {"train", "heldout"}) == "heldout";
  ShapesOptions options;
  options.classes = spec.integer("classes", 10, 10, 100);
  options.size = spec.integer("size", 32, 8, 512);
  options.clutter = spec.integer("clutter", 6, 0, 24);
  options.noise = spec.real("noise", 0, 0, 1);
  options.seed = static_cast<uint64_t>(spec.integer("seed", 0, 0, INT64_MAX));
  const int64_t count = spec.integer("count", heldout ? 2000 : 20000, 1, int64_t{1} << 40);
  spec.refuse_unknown();
  return std::make_shared<ShapesSource>(options, heldout ? kShapesHeldout : 0,
                                        static_cast<uint64_t>(count));
}

}  // namespace nfscale
