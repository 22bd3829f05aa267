// mds: a folder of MosaicML's Streaming (mds.h). ?image=, ?label= and ?key= name its columns; by
// default the picture is the one that can only be a picture, the label is "label", "y" or "cls",
// and the key is "key" or SHARD/NUMBER (?key= takes that in any case). Compressed shards are
// unpacked once (unpack.h). ?verify=1 reads every shard and compares its checksum.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "base/files.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/label.h"
#include "data/mds.h"
#include "data/sharded.h"
#include "data/spec.h"
#include "data/unpack.h"

namespace nfscale {
namespace {

constexpr uint32_t kMostText = 1 << 16;          // bytes of a label or key
constexpr size_t kMostIndex = size_t{64} << 20;  // some 100,000 shards; parsed, 60 times as much

using ColumnNumber = std::optional<size_t>;

bool is_text(const std::string& encoding) {
  return encoding == "str" || encoding == "str_int";
}

struct Roles {
  size_t picture = 0, label = 0;
  ColumnNumber key;
};

class RoleFinder {
 public:
  RoleFinder(Spec& spec, const std::vector<MdsColumn>& columns) : spec_(spec), columns_(columns) {
    for (const MdsColumn& c : columns) {
      names_.push_back(c.name);
      listed_.push_back(fmt::format("{} ({})", printable(c.name), printable(c.encoding)));
    }
  }

  Roles find() {
    Roles roles;
    const ColumnNumber picture = asked("image", is_picture);
    roles.picture = need("image", picture ? picture : only_picture());
    ColumnNumber label = asked("label", is_label);
    for (const char* name : {"label", "y", "cls"})
      if (!label) label = named(name, is_label);
    roles.label = need("label", label);
    if (!spec_.given("key"))
      roles.key = named("key", is_label);
    else if (spec_.text("key") != "")
      roles.key = asked("key", is_label);
    return roles;
  }

 private:
  using Kind = bool (*)(const MdsColumn&);
  static bool is_encoded(const MdsColumn& c) {
    const std::string format = c.encoding.substr(0, c.encoding.find(':'));  // "jpeg:90"
    return format == "jpeg" || format == "png" || format == "pil";
  }
  static bool is_bytes(const MdsColumn& c) { return c.encoding == "bytes"; }
  static bool is_picture(const MdsColumn& c) { return is_encoded(c) || is_bytes(c); }
  static bool is_label(const MdsColumn& c) {
    return is_text(c.encoding) || mds_integer_size(c.encoding).has_value();
  }

  ColumnNumber named(const std::string& name, Kind kind) const {
    for (size_t c = 0; c < columns_.size(); ++c)
      if (columns_[c].name == name && kind(columns_[c])) return c;
    return std::nullopt;
  }
  // The column that the specification names for a role.
  ColumnNumber asked(const std::string& role, Kind kind) {
    const auto name = spec_.text(role);
    if (!name) return std::nullopt;
    if (const auto c = named(*name, kind)) return c;
    fail(Exit::usage, "{}: {}: {} is no column that can be that; there are {} (nearest: {})",
         printable(spec_.whole), role, printable(*name), join(listed_, ", "),
         printable(nearest(*name, names_)));
  }
  ColumnNumber only_picture() const {
    for (const Kind kind : {is_encoded, is_bytes}) {
      const auto count = std::count_if(columns_.begin(), columns_.end(), kind);
      if (count == 1)
        return std::find_if(columns_.begin(), columns_.end(), kind) - columns_.begin();
      if (count > 1) break;
    }
    return std::nullopt;
  }
  size_t need(const std::string& role, ColumnNumber c) const {
    if (c) return *c;
    fail(Exit::usage, "{}: which column is the {}? Say ?{}=NAME; there are {}",
         printable(spec_.whole), role, role, join(listed_, ", "));
  }

  Spec& spec_;
  const std::vector<MdsColumn>& columns_;
  std::vector<std::string> names_, listed_;
};

class Indexer {
 public:
  Indexer(Shard& shard, const MdsShard& format, const Roles& roles, const LabelRule& rule)
      : shard_(shard), format_(format), roles_(roles), rule_(rule), file_(shard.file) {}

  void run() {
    shard_.identity = file_.identity();
    const MdsReader reader(format_, shard_.identity.size,
                           [this](uint64_t at, size_t count) { return file_.at(at, count); });
    if (const auto& fault = reader.fault()) return shard_.problem(fault->offset, "", fault->text);
    for (uint64_t i = 0; i < reader.samples(); ++i) add(reader, i);
  }

 private:
  void add(const MdsReader& reader, uint64_t i) {
    const std::string number =
        fmt::format("{}/{}", Path(format_.name).replace_extension().string(), i);
    const auto sample = reader.sample(i);
    if (const auto* why = std::get_if<std::string>(&sample))
      return shard_.problem(reader.offset(i), number, *why);
    const auto& values = std::get<std::vector<MdsReader::Value>>(sample);

    if (roles_.key && values[*roles_.key].length > kMostText)
      return shard_.problem(reader.offset(i), number, "a key of more than 64 KB");
    const auto given = roles_.key ? text_of(*roles_.key, values) : number;
    if (!given) return shard_.problem(reader.offset(i), number, "the key is beyond 63 bits");
    const std::string& key = *given;
    if (roles_.key && !keys_.try_emplace(key, reader.offset(i)).second)
      return shard_.problem(
          reader.offset(i), key,
          fmt::format(
              "the key comes again, first at byte {}; ?key=NAME names another column, ?key= "
              "takes the name of the shard and a number",
              keys_.at(key)));
    const auto& label_value = values[roles_.label];
    const LabelOrFault label = label_of(label_value);
    if (const auto* why = std::get_if<std::string>(&label))
      return shard_.problem(label_value.offset, key, *why);
    const auto& picture = values[roles_.picture];
    if (format_.columns[roles_.picture].encoding == "pil") {
      const std::string fault = mds_pil_fault(
          file_.at(picture.offset, std::min<size_t>(picture.length, kMdsPilHead)), picture.length);
      if (!fault.empty()) return shard_.problem(picture.offset, key, fault);
    }
    shard_.add(key, picture.offset, picture.length, std::get<int64_t>(label));
  }

  LabelOrFault label_of(const MdsReader::Value& value) {
    if (value.length > kMostText) return std::string("a label of more than 64 KB");
    const std::string_view bytes = file_.at(value.offset, value.length);
    const std::string& encoding = format_.columns[roles_.label].encoding;
    if (is_text(encoding)) return label_of_text(bytes, rule_);
    if (const auto number = mds_integer(encoding, bytes)) return label_of_number(*number, rule_);
    return std::string("the label is beyond 63 bits");
  }

  std::optional<std::string> text_of(size_t column, const std::vector<MdsReader::Value>& values) {
    const auto& value = values[column];
    const std::string& encoding = format_.columns[column].encoding;
    const std::string_view bytes = file_.at(value.offset, value.length);
    if (is_text(encoding)) return std::string(bytes);
    const auto number = mds_integer(encoding, bytes);
    return number ? std::optional(std::to_string(*number)) : std::nullopt;
  }

  Shard& shard_;
  const MdsShard& format_;
  const Roles& roles_;
  const LabelRule& rule_;
  RangeFile file_;
  std::unordered_map<std::string, uint64_t> keys_;  // to the first sample that has it
};

// Compares the first checksum of the index that the program knows; says what is wrong.
void verify(Shard& shard, const MdsShard& format) {
  std::vector<std::string> unknown;
  RangeFile file(shard.file);
  if (file.identity().size != format.bytes) return;  // told where it is indexed
  const std::string bytes = file.read(0, static_cast<size_t>(format.bytes));
  for (const auto& [algorithm, expected] : format.hashes) {
    const auto found = checksum(algorithm, bytes);
    if (found && *found != expected)
      shard.problem(
          0, "",
          fmt::format("its {} is {}, index.json says {}{}", algorithm, *found, printable(expected),
                      shard.file == shard.path ? "" : " (unpacked: " + shard.file + ")"));
    if (found) return;
    unknown.push_back(printable(algorithm));
  }
  shard.problem(0, "",
                unknown.empty() ? "index.json has no checksum of it; leave out ?verify=1"
                                : "no known checksum of it, only " + join(unknown, ", "));
}

// Where the bytes of a shard are read; unpacks it where only its compressed file is there.
void locate(Shard& shard, const MdsShard& format, const Path& folder) {
  const Path raw = folder / format.name;
  shard.path = shard.file = raw.string();
  if (format.packed.empty() || is_there(raw)) return;
  const Path packed = folder / format.packed;
  shard.path = shard.file = packed.string();
  const std::string how = format.compression.substr(0, format.compression.find(':'));
  if (how != "zstd" && how != "gz")
    fail(Exit::usage,
         "{}: compression {} is not read, only zstd and gz; unpack the shards beside index.json",
         printable(shard.path), printable(format.compression));
  cache_folder();  // where there is none, that is no fault of the shard
  if (const uint64_t size = RangeFile(packed).identity().size; size != format.packed_bytes)
    return shard.problem(0, "",
                         fmt::format("{} bytes, index.json says {}", size, format.packed_bytes));
  try {
    shard.file = unpacked(packed, format.bytes).string();
  } catch (const Error& e) {
    if (e.code != Exit::usage) throw;
    shard.problem(0, "", e.what());
  }
}

}  // namespace

std::shared_ptr<Source> open_mds(Spec& spec, const Report& report) {
  const Path folder = spec.path, index = folder / "index.json";
  const auto formats = parse_mds_index(read_file(index, kMostIndex), printable(index.string()));
  if (formats.empty()) fail(Exit::usage, "{}: no shard in it", printable(index.string()));
  const Roles roles = RoleFinder(spec, formats.front().columns).find();
  const bool verified = spec.integer("verify", 0, 0, 1) == 1;
  const auto list = spec.text("classes");
  spec.refuse_unknown();
  std::vector<std::string> names = class_names(list, folder / "classes.txt");
  const LabelRule rule(names);

  std::vector<Shard> shards(formats.size());
  index_shards(shards.size(), [&](size_t i) {
    locate(shards[i], formats[i], folder);
    if (verified && shards[i].problems.empty()) verify(shards[i], formats[i]);
    if (shards[i].problems.empty()) Indexer(shards[i], formats[i], roles, rule).run();
  });
  for (Shard& s : shards) {
    for (Problem& p : s.problems) report(std::move(p));
    s.problems.clear();
  }
  const bool pil = formats.front().columns[roles.picture].encoding == "pil";
  return std::make_shared<ShardedSource>(std::move(shards), std::move(names),
                                         pil ? mds_pil_picture : nullptr);
}

}  // namespace nfscale
