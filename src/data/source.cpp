#include "data/source.h"

#include <algorithm>
#include <limits>

#include "base/hash.h"
#include "base/text.h"
#include "data/spec.h"

namespace nfscale {

std::string Problem::text() const {
  std::string line = printable(file);
  if (!key.empty()) line += ": " + printable(key);
  return fmt::format("{} at byte {}: {}", line, offset, problem);
}

std::optional<uint64_t> Source::find(std::string_view wanted) const {
  for (uint64_t i = 0; i < size(); ++i)
    if (key(i) == wanted) return i;
  return std::nullopt;
}

namespace {

// The part of a source whose keys fall on one side of a threshold of their hash.
class SplitSource : public Source {
 public:
  SplitSource(std::shared_ptr<const Source> all, bool heldout, double share)
      : all_(std::move(all)) {
    classes_ = all_->classes();
    empty_classes_ = all_->empty_classes();
    named_ = all_->named();
    for (uint64_t i = 0; i < all_->size(); ++i) {
      const double at = static_cast<double>(hash64(all_->key(i)) >> 11) * 0x1p-53;
      if ((at < share) == heldout) numbers_.push_back(i);
    }
  }
  uint64_t size() const override { return numbers_.size(); }
  Example read(uint64_t i) const override { return all_->read(numbers_.at(i)); }
  std::string key(uint64_t i) const override { return all_->key(numbers_.at(i)); }
  int64_t label(uint64_t i) const override { return all_->label(numbers_.at(i)); }
  std::string fingerprint() const override {
    Hasher hasher;
    hasher.add(all_->fingerprint());
    for (const uint64_t i : numbers_) hasher.add(i);
    return hasher.digest();
  }

 private:
  std::shared_ptr<const Source> all_;
  std::vector<uint64_t> numbers_;
};

class JoinedSource : public Source {
 public:
  explicit JoinedSource(std::vector<std::shared_ptr<const Source>> parts)
      : parts_(std::move(parts)) {
    const Source& first = *parts_.front();
    named_ = first.named();
    set_order(first.block(), first.window());
    for (const auto& part : parts_) {
      if (part->named() != named_ || (named_ && part->classes() != first.classes()))
        fail(Exit::usage, "the sources have different classes: {}", difference(*part, first));
      if (part->classes().size() > classes_.size()) classes_ = part->classes();
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) + part->size());
    }
    // A class is empty where it is empty in every part.
    for (const std::string& name : first.empty_classes())
      if (std::all_of(parts_.begin(), parts_.end(), [&](const auto& part) {
            const auto& empty = part->empty_classes();
            return std::find(empty.begin(), empty.end(), name) != empty.end();
          }))
        empty_classes_.push_back(name);
  }
  uint64_t size() const override { return ends_.back(); }
  Example read(uint64_t i) const override {
    const auto [part, own] = find_part(i);
    return part->read(own);
  }
  std::string key(uint64_t i) const override {
    const auto [part, own] = find_part(i);
    return part->key(own);
  }
  int64_t label(uint64_t i) const override {
    const auto [part, own] = find_part(i);
    return part->label(own);
  }
  std::string fingerprint() const override {
    Hasher hasher;
    for (const auto& part : parts_) hasher.add(part->fingerprint());
    return hasher.digest();
  }

 private:
  static std::string difference(const Source& a, const Source& b) {
    for (const std::string& name : a.classes())
      if (std::find(b.classes().begin(), b.classes().end(), name) == b.classes().end())
        return printable(name) + " is not in all of them";
    return "not in the same order";
  }
  std::pair<const Source*, uint64_t> find_part(uint64_t i) const {
    const auto at = std::upper_bound(ends_.begin(), ends_.end(), i) - ends_.begin();
    NFSCALE_CHECK(static_cast<size_t>(at) < parts_.size());
    return {parts_[static_cast<size_t>(at)].get(), at ? i - ends_[static_cast<size_t>(at - 1)] : i};
  }

  std::vector<std::shared_ptr<const Source>> parts_;
  std::vector<uint64_t> ends_;
};

std::shared_ptr<const Source> open_one(const std::string& text, const Report& report) {
  Spec spec(text);
  constexpr int64_t most = int64_t{1} << 40;
  const auto block = static_cast<uint64_t>(spec.integer("block", 1024, 1, most));
  const auto window = static_cast<uint64_t>(spec.integer("window", 32, 1, 1 << 20));
  std::shared_ptr<Source> source;
  if (spec.scheme == "shapes")
    source = open_shapes(spec);
  else if (spec.scheme == "fractal")
    source = open_fractal(spec);
  else if (spec.scheme == "cifar")
    source = open_cifar(spec, report);
  else if (spec.scheme == "idx")
    source = open_idx(spec, report);
  else {
    const bool divided = spec.given("split");
    const std::string part = spec.word("split", {"train", "heldout"});
    const double share = spec.real("share", 0.05, 0, 1);
    const auto open = spec.scheme == "wds"   ? open_wds
                      : spec.scheme == "mds" ? open_mds
                                             : open_folder;
    source = open(spec, report);
    if (divided) source = std::make_shared<SplitSource>(source, part == "heldout", share);
  }
  source->set_order(block, window);
  return source;
}

std::shared_ptr<const Source> open_all(const std::vector<std::string>& specs,
                                       const Report& report) {
  if (specs.empty()) fail(Exit::usage, "no source is given");
  std::vector<std::shared_ptr<const Source>> parts;
  for (const std::string& spec : specs) parts.push_back(open_one(spec, report));
  if (parts.size() == 1) return parts[0];
  return std::make_shared<JoinedSource>(std::move(parts));
}

}  // namespace

std::shared_ptr<const Source> open_source(const std::vector<std::string>& specs) {
  auto source = open_all(specs, [](const Problem& p) { fail(Exit::usage, "{}", p.text()); });
  if (source->size() == 0) fail(Exit::usage, "{}: no example in it", join(specs, " "));
  return source;
}

std::shared_ptr<const Source> open_source(const std::vector<std::string>& specs,
                                          std::vector<Problem>& problems) {
  auto source = open_all(specs, [&](Problem p) { problems.push_back(std::move(p)); });
  if (source->size() == 0)
    fail(Exit::usage, "{}",
         problems.empty() ? join(specs, " ") + ": no example in it" : problems.front().text());
  return source;
}

void require_training_set(const Source& source) {
  if (!source.empty_classes().empty())
    fail(Exit::usage, "the class {} has no picture to learn from (allow it with ?allow_empty=1)",
         printable(source.empty_classes().front()));
}

std::vector<int64_t> match_classes(const Source& source, const std::vector<std::string>& names) {
  std::vector<int64_t> map;
  const bool numbered = names == numbers_as_names(static_cast<int64_t>(names.size()));
  for (const std::string& name : source.classes()) {
    auto at = static_cast<int64_t>(std::find(names.begin(), names.end(), name) - names.begin());
    if (!source.named() || numbered) at = static_cast<int64_t>(map.size());
    if (at >= static_cast<int64_t>(names.size()))
      fail(Exit::usage,
           "the class {} of the data is not among the {} classes of the model (nearest: "
           "{})",
           printable(name), names.size(), printable(nearest(name, names)));
    map.push_back(at);
  }
  return map;
}

}  // namespace nfscale
