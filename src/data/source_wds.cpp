// wds: tar shards in the way of WebDataset. The key of a member is its path up to the first dot of
// the last component; neighbours of one key are an example: one picture (jpg, jpeg, png, webp in
// any case) and one label (cls, or a value in json). What would lose an example in silence is
// refused: keys that return, two pictures for one key, pictures without labels.
#include <fmt/format.h>

#include <unordered_map>

#include "base/log.h"
#include "base/text.h"
#include "data/label.h"
#include "data/sharded.h"
#include "data/spec.h"
#include "data/tar.h"

namespace nfscale {
namespace {

constexpr uint64_t kMostLabelBytes = 1 << 20;

struct Labels {
  std::string json_path;  // empty: the member "cls"
  LabelRule rule;
  std::string extension() const { return json_path.empty() ? "cls" : "json"; }
  LabelOrFault of(std::string_view text) const {
    return json_path.empty() ? label_of_text(text, rule) : label_of_json(text, json_path, rule);
  }
};

// Members that are no part of an example and no fault.
struct PassedOver {
  int64_t hidden = 0, devices = 0;
  bool missing_end = false;
};

struct KeyAndField {
  std::string key, field;  // the field in small letters
  bool hidden = false;     // metadata of another system: ._name, .DS_Store, __MACOSX/
};

KeyAndField split_name(const std::string& name) {
  const size_t slash = name.rfind('/');
  const size_t base = slash == std::string::npos ? 0 : slash + 1;
  const size_t dot = name.find('.', base);
  KeyAndField k;
  k.hidden =
      dot == base || name.starts_with("__MACOSX/") || name.find("/__MACOSX/") != std::string::npos;
  k.key = name.substr(0, dot);
  if (dot != std::string::npos) k.field = name.substr(dot + 1);
  for (char& c : k.field)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return k;
}

bool is_picture(std::string_view field) {
  return field == "jpg" || field == "jpeg" || field == "png" || field == "webp";
}

class Indexer {
 public:
  Indexer(Shard& shard, PassedOver& passed, const Labels& labels)
      : shard_(shard),
        passed_(passed),
        labels_(labels),
        file_(shard.path),
        reader_(file_.identity().size,
                [this](uint64_t at, size_t count) { return file_.at(at, count); }) {}

  void run() {
    shard_.identity = file_.identity();
    while (const auto member = reader_.next()) add(*member);
    if (const auto& fault = reader_.fault()) {
      shard_.problem(fault->offset, fault->member, fault->text);
      if (!group_.picture || !group_.label) begun_ = false;  // the rest of it may be behind
    }
    finish();
    passed_.missing_end = reader_.missing_end();
  }

 private:
  struct Group {
    std::string key, odd_field;
    uint64_t header = 0;
    std::optional<TarMember> picture, label;
    bool bad = false;
  };

  void add(const TarMember& m) {
    switch (m.kind) {
      case TarMember::Kind::folder:
        return;
      case TarMember::Kind::device:
        ++passed_.devices;
        return;
      case TarMember::Kind::link:
        return shard_.problem(m.header, m.name,
                              "a link; links are not followed, store the file itself");
      case TarMember::Kind::sparse:
        return shard_.problem(m.header, m.name, "a sparse member; store it as a plain file");
      case TarMember::Kind::file:
        break;
    }
    const KeyAndField name = split_name(m.name);
    if (name.hidden) {
      ++passed_.hidden;
      return;
    }
    if (name.key != group_.key || !begun_) {
      finish();
      begun_ = true;
      group_ = {.key = name.key, .odd_field = {}, .header = m.header, .picture = {}, .label = {}};
      const auto [first, is_new] = seen_.try_emplace(name.key, m.header);
      if (!is_new) {
        group_.bad = true;
        shard_.problem(
            m.header, name.key,
            fmt::format("the key comes again, first at byte {}; the members of an example must "
                        "be neighbours and no key may come twice: sort the tar by name",
                        first->second));
      }
    }
    if (is_picture(name.field))
      take(group_.picture, m, "picture");
    else if (name.field == labels_.extension())
      take(group_.label, m, "label");
    else if (const size_t dot = name.field.rfind('.');
             dot != std::string::npos && (is_picture(name.field.substr(dot + 1)) ||
                                          name.field.substr(dot + 1) == labels_.extension()))
      group_.odd_field = name.field;
  }

  void take(std::optional<TarMember>& place, const TarMember& m, std::string_view what) {
    if (place && !group_.bad) {
      group_.bad = true;
      shard_.problem(m.header, group_.key,
                     fmt::format("a second {}, the first is at byte {}", what, place->header));
    }
    place = m;
  }

  void finish() {
    if (!begun_ || group_.bad) return;
    begun_ = false;
    const Group& g = group_;
    if (!g.picture && !g.label) {
      if (!g.odd_field.empty())
        shard_.problem(
            g.header, g.key,
            fmt::format("no picture and no label, but a field \"{}\": the key ends at the first "
                        "dot of the name, rename the files",
                        printable(g.odd_field)));
      return;  // no part of an example
    }
    if (!g.picture) return shard_.problem(g.header, g.key, "a label without a picture");
    if (!g.label)
      return shard_.problem(g.header, g.key,
                            fmt::format("a picture without a label (.{})", labels_.extension()));
    if (g.picture->size > UINT32_MAX)
      return shard_.problem(g.picture->header, g.key, "a picture of more than 4 GB");
    if (g.label->size > kMostLabelBytes)
      return shard_.problem(g.label->header, g.key, "a label of more than 1 MB");
    const std::string text = file_.read(g.label->offset, static_cast<size_t>(g.label->size));
    const LabelOrFault label = labels_.of(text);
    if (const auto* why = std::get_if<std::string>(&label))
      return shard_.problem(g.label->header, g.key, *why);
    shard_.add(g.key, g.picture->offset, static_cast<uint32_t>(g.picture->size),
               std::get<int64_t>(label));
  }

  Shard& shard_;
  PassedOver& passed_;
  const Labels& labels_;
  RangeFile file_;
  TarReader reader_;
  Group group_;
  bool begun_ = false;
  std::unordered_map<std::string, uint64_t> seen_;  // key to its first header
};

}  // namespace

std::shared_ptr<Source> open_wds(Spec& spec, const Report& report) {
  Labels labels;
  const std::string label = spec.text("label").value_or("cls");
  if (label.starts_with("json:") && label.size() > 5)
    labels.json_path = label.substr(5);
  else if (label != "cls")
    fail(Exit::usage, "{}: label: expected cls or json:PATH, found \"{}\"", printable(spec.whole),
         printable(label));
  const auto list = spec.text("classes");
  spec.refuse_unknown();

  std::vector<Shard> shards;
  for (std::string& path : expand_paths(spec.path)) {
    shards.emplace_back();
    shards.back().path = shards.back().file = std::move(path);
  }
  std::vector<std::string> names =
      class_names(list, Path(shards.front().path).parent_path() / "classes.txt");
  labels.rule = LabelRule(names);

  std::vector<PassedOver> passed(shards.size());
  index_shards(shards.size(), [&](size_t i) { Indexer(shards[i], passed[i], labels).run(); });
  int64_t hidden = 0, devices = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    hidden += passed[i].hidden;
    devices += passed[i].devices;
    if (passed[i].missing_end)
      warn("{}: no end-of-archive mark; every member is whole", printable(shards[i].path));
    for (Problem& p : shards[i].problems) report(std::move(p));
    shards[i].problems.clear();
  }
  if (hidden > 0)
    say("{}: {} hidden members (._name, .DS_Store, __MACOSX) are passed over",
        printable(spec.whole), hidden);
  if (devices > 0)
    warn("{}: {} members that are no files are passed over", printable(spec.whole), devices);
  return std::make_shared<ShardedSource>(std::move(shards), std::move(names));
}

}  // namespace nfscale
