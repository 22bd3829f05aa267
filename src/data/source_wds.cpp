// wds: tar shards in the way of WebDataset. The key of a member is its path up to the first dot of
// the last component; neighbours of one key are an example: one picture (jpg, jpeg, png, webp in
// any case) and one label (cls, or a value in json). What would lose an example in silence is
// refused: keys that return, two pictures for one key, pictures without labels.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>
#include <unordered_map>

#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "data/file_range.h"
#include "data/spec.h"
#include "data/tar.h"

namespace nfscale {
namespace {

constexpr uint64_t kMostLabelBytes = 1 << 20;
constexpr int64_t kMostUnnamedClasses = 1 << 20;

struct Entry {
  uint64_t offset = 0, key_at = 0;
  uint32_t length = 0, key_length = 0;
  int32_t label = 0;
};

struct LabelRule {
  std::string json_path;  // empty: the member "cls"
  std::unordered_map<std::string, int64_t> names;
  int64_t classes = kMostUnnamedClasses;  // labels are below
  std::string extension() const { return json_path.empty() ? "cls" : "json"; }
};

struct Shard {
  std::string path;
  FileIdentity identity;
  std::vector<Entry> entries;
  std::string keys;
  std::vector<Problem> problems;
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

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\r\n\v\f";
  const size_t begin = text.find_first_not_of(white);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(white) - begin + 1);
}

// The label, or why there is none.
std::variant<int64_t, std::string> label_of_text(std::string_view text, const LabelRule& rule) {
  text = trimmed(text);
  int64_t label = 0;
  if (const auto number = parse_int(text)) {
    label = *number;
  } else if (const auto named = rule.names.find(std::string(text)); named != rule.names.end()) {
    label = named->second;
  } else if (text.find_first_of(" \t\r\n") != std::string_view::npos) {
    return std::string("several labels in one example are not read");
  } else {
    return fmt::format("the label \"{}\" is neither a number nor a class of a list",
                       printable(text.substr(0, 60)));
  }
  if (label < 0 || label >= rule.classes)
    return fmt::format("the label {} is not in 0 .. {}", label, rule.classes - 1);
  return label;
}

std::variant<int64_t, std::string> label_of_json(std::string_view text, const LabelRule& rule) {
  try {
    Json value = parse_json(text, "json");
    for (const std::string& part : split(rule.json_path, '.')) {
      const Json* inner = value.is_object() ? value.find(part) : nullptr;
      if (inner == nullptr) return fmt::format("{} is not in its json", rule.json_path);
      value = Json(*inner);
    }
    if (value.is_int()) return label_of_text(std::to_string(value.as_int()), rule);
    if (value.is_string()) return label_of_text(value.as_string(), rule);
    return fmt::format("{} of its json is neither a whole number nor a text", rule.json_path);
  } catch (const Error& e) {
    return fmt::format("its json cannot be read: {}", e.what());
  }
}

class Indexer {
 public:
  Indexer(Shard& shard, const LabelRule& rule)
      : shard_(shard),
        rule_(rule),
        file_(shard.path),
        reader_(file_.identity().size,
                [this](uint64_t at, size_t count) { return file_.at(at, count); }) {}

  void run() {
    shard_.identity = file_.identity();
    while (const auto member = reader_.next()) add(*member);
    if (const auto& fault = reader_.fault()) {
      problem(fault->offset, fault->member, fault->text);
      if (!group_.picture || !group_.label) begun_ = false;  // the rest of it may be behind
    }
    finish();
    shard_.missing_end = reader_.missing_end();
  }

 private:
  struct Group {
    std::string key, odd_field;
    uint64_t header = 0;
    std::optional<TarMember> picture, label;
    bool bad = false;
  };

  void problem(uint64_t offset, const std::string& key, std::string text) {
    shard_.problems.push_back({shard_.path, key, std::move(text), offset});
  }

  void add(const TarMember& m) {
    switch (m.kind) {
      case TarMember::Kind::folder:
        return;
      case TarMember::Kind::device:
        ++shard_.devices;
        return;
      case TarMember::Kind::link:
        return problem(m.header, m.name, "a link; links are not followed, store the file itself");
      case TarMember::Kind::sparse:
        return problem(m.header, m.name, "a sparse member; store it as a plain file");
      case TarMember::Kind::file:
        break;
    }
    const KeyAndField name = split_name(m.name);
    if (name.hidden) {
      ++shard_.hidden;
      return;
    }
    if (name.key != group_.key || !begun_) {
      finish();
      begun_ = true;
      group_ = {.key = name.key, .odd_field = {}, .header = m.header, .picture = {}, .label = {}};
      const auto [first, is_new] = seen_.try_emplace(name.key, m.header);
      if (!is_new) {
        group_.bad = true;
        problem(m.header, name.key,
                fmt::format("the key comes again, first at byte {}; the members of an example must "
                            "be neighbours and no key may come twice: sort the tar by name",
                            first->second));
      }
    }
    if (is_picture(name.field))
      take(group_.picture, m, "picture");
    else if (name.field == rule_.extension())
      take(group_.label, m, "label");
    else if (const size_t dot = name.field.rfind('.');
             dot != std::string::npos && (is_picture(name.field.substr(dot + 1)) ||
                                          name.field.substr(dot + 1) == rule_.extension()))
      group_.odd_field = name.field;
  }

  void take(std::optional<TarMember>& place, const TarMember& m, std::string_view what) {
    if (place && !group_.bad) {
      group_.bad = true;
      problem(m.header, group_.key,
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
        problem(
            g.header, g.key,
            fmt::format("no picture and no label, but a field \"{}\": the key ends at the first "
                        "dot of the name, rename the files",
                        printable(g.odd_field)));
      return;  // no part of an example
    }
    if (!g.picture) return problem(g.header, g.key, "a label without a picture");
    if (!g.label)
      return problem(g.header, g.key,
                     fmt::format("a picture without a label (.{})", rule_.extension()));
    if (g.picture->size > UINT32_MAX)
      return problem(g.picture->header, g.key, "a picture of more than 4 GB");
    if (g.label->size > kMostLabelBytes)
      return problem(g.label->header, g.key, "a label of more than 1 MB");
    const std::string text = file_.read(g.label->offset, static_cast<size_t>(g.label->size));
    const auto label =
        rule_.json_path.empty() ? label_of_text(text, rule_) : label_of_json(text, rule_);
    if (const auto* why = std::get_if<std::string>(&label))
      return problem(g.label->header, g.key, *why);
    shard_.entries.push_back({.offset = g.picture->offset,
                              .key_at = shard_.keys.size(),
                              .length = static_cast<uint32_t>(g.picture->size),
                              .key_length = static_cast<uint32_t>(g.key.size()),
                              .label = static_cast<int32_t>(std::get<int64_t>(label))});
    shard_.keys += g.key;
  }

  Shard& shard_;
  const LabelRule& rule_;
  RangeFile file_;
  TarReader reader_;
  Group group_;
  bool begun_ = false;
  std::unordered_map<std::string, uint64_t> seen_;  // key to its first header
};

void index_all(std::vector<Shard>& shards, const LabelRule& rule) {
  std::atomic<size_t> next = 0;
  std::vector<std::exception_ptr> errors(shards.size());
  {
    std::vector<std::jthread> threads;
    const size_t count =
        std::min<size_t>(shards.size(), std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
    for (size_t t = 0; t < count; ++t)
      threads.emplace_back([&] {
        for (size_t i = next++; i < shards.size(); i = next++) {
          try {
            Indexer(shards[i], rule).run();
          } catch (...) {
            errors[i] = std::current_exception();
          }
        }
      });
  }
  for (const auto& error : errors)
    if (error) std::rethrow_exception(error);
}

class WdsSource : public Source {
 public:
  WdsSource(std::vector<Shard> shards, std::vector<std::string> names)
      : shards_(std::move(shards)) {
    int64_t labels = 0;
    for (const Shard& s : shards_) {
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) + s.entries.size());
      for (const Entry& e : s.entries) labels = std::max<int64_t>(labels, e.label + 1);
    }
    named_ = !names.empty();
    classes_ = named_ ? std::move(names) : numbers_as_names(labels);
  }
  uint64_t size() const override { return ends_.empty() ? 0 : ends_.back(); }
  Example read(uint64_t i) const override {
    const auto [s, e] = find_entry(i);
    return {.key = key_of(*s, *e),
            .label = e->label,
            .bytes = read_range(s->path, s->identity, e->offset, e->length),
            .picture = {},
            .file = s->path,
            .offset = e->offset};
  }
  std::string key(uint64_t i) const override {
    const auto [s, e] = find_entry(i);
    return key_of(*s, *e);
  }
  int64_t label(uint64_t i) const override { return find_entry(i).second->label; }
  std::string fingerprint() const override {
    Hasher hasher;
    for (const Shard& s : shards_)
      for (const Entry& e : s.entries) {
        hasher.add(hash64(std::string_view(s.keys).substr(e.key_at, e.key_length)));
        hasher.add(static_cast<uint64_t>(e.label));
        hasher.add(uint64_t{e.length});
      }
    return hasher.digest();
  }

 private:
  static std::string key_of(const Shard& s, const Entry& e) {
    return s.keys.substr(e.key_at, e.key_length);
  }
  std::pair<const Shard*, const Entry*> find_entry(uint64_t i) const {
    const auto at =
        static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), i) - ends_.begin());
    NFSCALE_CHECK(at < shards_.size());
    return {&shards_[at], &shards_[at].entries[i - (at ? ends_[at - 1] : 0)]};
  }

  std::vector<Shard> shards_;
  std::vector<uint64_t> ends_;
};

}  // namespace

std::shared_ptr<Source> open_wds(Spec& spec, const Report& report) {
  LabelRule rule;
  const std::string label = spec.text("label").value_or("cls");
  if (label.starts_with("json:") && label.size() > 5)
    rule.json_path = label.substr(5);
  else if (label != "cls")
    fail(Exit::usage, "{}: label: expected cls or json:PATH, found \"{}\"", printable(spec.whole),
         printable(label));
  const auto list = spec.text("classes");
  spec.refuse_unknown();

  std::vector<Shard> shards;
  for (std::string& path : expand_paths(spec.path)) {
    shards.emplace_back();
    shards.back().path = std::move(path);
  }
  Path names_file = list ? Path(*list) : Path(shards.front().path).parent_path() / "classes.txt";
  std::vector<std::string> names;
  if (list || std::filesystem::exists(names_file)) names = read_classes(names_file);
  for (size_t i = 0; i < names.size(); ++i) rule.names[names[i]] = static_cast<int64_t>(i);
  if (!names.empty()) rule.classes = static_cast<int64_t>(names.size());

  index_all(shards, rule);
  int64_t hidden = 0, devices = 0;
  for (Shard& s : shards) {
    hidden += s.hidden;
    devices += s.devices;
    if (s.missing_end) warn("{}: no end-of-archive mark; every member is whole", printable(s.path));
    for (Problem& p : s.problems) report(std::move(p));
    s.problems.clear();
  }
  if (hidden > 0)
    say("{}: {} hidden members (._name, .DS_Store, __MACOSX) are passed over",
        printable(spec.whole), hidden);
  if (devices > 0)
    warn("{}: {} members that are no files are passed over", printable(spec.whole), devices);
  return std::make_shared<WdsSource>(std::move(shards), std::move(names));
}

}  // namespace nfscale
