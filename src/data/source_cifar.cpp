// cifar: the binary files of CIFAR-10 (data_batch_*.bin, test_batch.bin, batches.meta.txt) and
// CIFAR-100 (train.bin, test.bin, fine_label_names.txt; the fine label counts).
#include <fmt/format.h>

#include <algorithm>

#include "base/files.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/file_range.h"
#include "data/spec.h"

namespace nfscale {
namespace {

constexpr size_t kPixels = 32 * 32;

struct Part {
  std::string path, stem;
  FileIdentity identity;
};

class CifarSource : public Source {
 public:
  CifarSource(bool hundred, std::vector<Part> parts, std::vector<std::string> names,
              const Report& report)
      : labels_of_(hundred ? 2 : 1), parts_(std::move(parts)) {
    const int64_t count = hundred ? 100 : 10;
    named_ = !names.empty();
    classes_ = named_ ? std::move(names) : numbers_as_names(count);
    for (size_t p = 0; p < parts_.size(); ++p) index(p, count, report);
  }
  uint64_t size() const override { return places_.size(); }
  Example read(uint64_t i) const override {
    const Place& at = places_.at(i);
    const Part& part = parts_[at.part];
    const std::string record =
        read_range(part.path, part.identity, uint64_t{at.number} * record_size(), record_size());
    Picture picture(32, 32);
    const char* planes = record.data() + labels_of_;
    for (size_t k = 0; k < kPixels * 3; ++k)
      picture.rgb[k] = static_cast<uint8_t>(planes[k % 3 * kPixels + k / 3]);
    return {.key = key(i),
            .label = at.label,
            .bytes = {},
            .picture = std::move(picture),
            .file = part.path,
            .offset = uint64_t{at.number} * record_size()};
  }
  std::string key(uint64_t i) const override {
    const Place& at = places_.at(i);
    return fmt::format("{}/{}", parts_[at.part].stem, at.number);
  }
  int64_t label(uint64_t i) const override { return places_.at(i).label; }
  std::string fingerprint() const override {
    Hasher hasher;
    for (uint64_t i = 0; i < size(); ++i) {
      hasher.add(hash64(key(i)));
      hasher.add(static_cast<uint64_t>(label(i)));
      hasher.add(uint64_t{record_size()});
    }
    return hasher.digest();
  }

 private:
  struct Place {
    uint32_t part = 0, number = 0;
    int32_t label = 0;
  };
  size_t record_size() const { return labels_of_ + kPixels * 3; }

  void index(size_t p, int64_t count, const Report& report) {
    Part& part = parts_[p];
    RangeFile file(part.path);
    part.identity = file.identity();
    const uint64_t size = part.identity.size, records = size / record_size();
    if (size % record_size() != 0 || records > UINT32_MAX) {
      report(
          {part.path, "",
           fmt::format("{} bytes are no whole number of records of {} bytes", size, record_size()),
           records * record_size()});
      return;
    }
    for (uint64_t i = 0; i < records; ++i) {
      const std::string_view head = file.at(i * record_size(), labels_of_);
      const int label = head.size() == labels_of_ ? static_cast<unsigned char>(head.back()) : 256;
      if (label >= count)
        report({part.path, fmt::format("{}/{}", part.stem, i),
                fmt::format("the label {} is not in 0 .. {}", label, count - 1),
                i * record_size()});
      else
        places_.push_back({static_cast<uint32_t>(p), static_cast<uint32_t>(i), label});
    }
  }

  size_t labels_of_;  // bytes before the pixels; the last one is the label
  std::vector<Part> parts_;
  std::vector<Place> places_;
};

}  // namespace

std::shared_ptr<Source> open_cifar(Spec& spec, const Report& report) {
  const bool test = spec.word("split", {"train", "test"}) == "test";
  spec.refuse_unknown();
  const Path folder = spec.path;
  const auto there = [&](const char* name) { return is_there(folder / name); };
  const bool hundred = there("train.bin") || there("test.bin");
  std::vector<Part> parts;
  std::error_code error;
  for (std::filesystem::directory_iterator i(folder, error), end; !error && i != end;
       i.increment(error)) {
    const std::string name = i->path().filename().string(), stem = i->path().stem().string();
    const bool wanted = hundred ? name == (test ? "test.bin" : "train.bin")
                        : test  ? name == "test_batch.bin"
                                : name.starts_with("data_batch_") && name.ends_with(".bin");
    if (wanted) parts.push_back({i->path().string(), stem, {}});
  }
  if (error)
    fail(Exit::usage, "{}: cannot be read: {}", printable(folder.string()), error.message());
  std::sort(parts.begin(), parts.end(),
            [](const Part& a, const Part& b) { return a.path < b.path; });
  if (parts.empty())
    fail(Exit::usage, "{}: no {} in it", printable(folder.string()),
         test ? "test_batch.bin or test.bin" : "data_batch_*.bin or train.bin");
  const char* names_file = hundred ? "fine_label_names.txt" : "batches.meta.txt";
  std::vector<std::string> names;
  if (there(names_file)) names = read_classes(folder / names_file);
  if (!names.empty() && names.size() != (hundred ? 100u : 10u))
    fail(Exit::usage, "{}: expected {} classes, found {}", (folder / names_file).string(),
         hundred ? 100 : 10, names.size());
  return std::make_shared<CifarSource>(hundred, std::move(parts), std::move(names), report);
}

}  // namespace nfscale
