// idx: pictures and labels in the format of MNIST (Fashion-MNIST, KMNIST, ...): magic number, sizes
// as big-endian 32-bit numbers, bytes. train-images-idx3-ubyte and train-labels-idx1-ubyte, or
// t10k-* for ?split=test; plain or .gz. Gray pictures become RGB.
#include <fmt/format.h>

#include <array>

#include "base/files.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/decode.h"
#include "data/file_range.h"
#include "data/spec.h"
#include "data/unpack.h"

namespace nfscale {
namespace {

struct IdxFile {
  Path path, content;  // as the user knows it; as it is read
  FileIdentity identity;
  std::array<uint32_t, 3> sizes = {1, 1, 1};
  uint64_t header = 0, item = 0;  // bytes
};

// The file of `stem`, its header read.
IdxFile open_file(const Path& folder, const std::string& stem, size_t dimensions) {
  const std::string kind = fmt::format("idx{}-ubyte", dimensions);
  IdxFile f;
  for (const char* ending : {"", ".gz"})
    for (const char* joint : {"-", "."}) {
      const Path path = folder / (stem + joint + kind + ending);
      if (f.path.empty() && is_there(path)) f.path = path;
    }
  if (f.path.empty())
    fail(Exit::usage, "{}: no {}-{} in it, plain or .gz", printable(folder.string()), stem, kind);

  const std::string shown = printable(f.path.string());
  f.header = 4 + 4 * dimensions;
  const std::string head = unpacked_prefix(f.path, f.header);
  const auto byte = [&](size_t i) { return uint32_t{static_cast<unsigned char>(head[i])}; };
  if (head.size() < f.header) fail(Exit::usage, "{}: ends inside its header", shown);
  if (byte(0) != 0 || byte(1) != 0 || byte(2) != 8 || byte(3) != dimensions)
    fail(Exit::usage,
         "{}: expected the magic number 00 00 08 {:02x} at byte 0, found {:02x} {:02x} {:02x} "
         "{:02x}",
         shown, dimensions, byte(0), byte(1), byte(2), byte(3));
  for (size_t d = 0; d < dimensions; ++d) {
    const size_t at = 4 + 4 * d;
    f.sizes[d] = byte(at) << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 | byte(at + 3);
  }

  // With sides limited, the product of three sizes of 32 bits fits 64.
  const auto fault = dimensions == 3 ? size_fault(f.sizes[2], f.sizes[1], {}) : "";
  if (!fault.empty()) fail(Exit::usage, "{}: {}", shown, fault);
  f.item = uint64_t{f.sizes[1]} * f.sizes[2];
  return f;
}

// Its bytes, as many as its header declares.
void open_content(IdxFile& f) {
  const uint64_t declared = f.header + f.sizes[0] * f.item;
  f.content = unpacked(f.path, declared);
  f.identity = RangeFile(f.content).identity();
  if (f.identity.size != declared)
    fail(Exit::usage, "{}: {} bytes, its header declares {} ({} x {} bytes)",
         printable(f.path.string()), f.identity.size, declared, f.sizes[0], f.item);
}

class IdxSource : public Source {
 public:
  IdxSource(std::string stem, IdxFile pictures, IdxFile labels, std::vector<std::string> names,
            const Report& report)
      : stem_(std::move(stem)), pictures_(std::move(pictures)) {
    const std::string bytes =
        read_range(labels.content, labels.identity, labels.header, labels.sizes[0]);
    int largest = -1;
    for (uint32_t i = 0; i < bytes.size(); ++i) {
      const auto label = static_cast<uint8_t>(bytes[i]);
      if (!names.empty() && label >= names.size()) {
        report({labels.path.string(), fmt::format("{}/{}", stem_, i),
                fmt::format("the label {} is not in 0 .. {}", label, names.size() - 1),
                labels.header + i});
        continue;
      }
      places_.push_back({i, label});
      largest = std::max<int>(largest, label);
    }
    named_ = !names.empty();
    classes_ = named_ ? std::move(names) : numbers_as_names(largest + 1);
  }
  uint64_t size() const override { return places_.size(); }
  Example read(uint64_t i) const override {
    const uint64_t offset = pictures_.header + places_.at(i).number * pictures_.item;
    const std::string gray = read_range(pictures_.content, pictures_.identity, offset,
                                        static_cast<size_t>(pictures_.item));
    Picture picture(pictures_.sizes[2], pictures_.sizes[1]);
    for (size_t k = 0; k < picture.rgb.size(); ++k)
      picture.rgb[k] = static_cast<uint8_t>(gray[k / 3]);
    return {.key = key(i),
            .label = label(i),
            .bytes = {},
            .picture = std::move(picture),
            .file = pictures_.path.string(),
            .offset = offset};
  }
  std::string key(uint64_t i) const override {
    return fmt::format("{}/{}", stem_, places_.at(i).number);
  }
  int64_t label(uint64_t i) const override { return places_.at(i).label; }
  std::string fingerprint() const override {
    Hasher hasher;
    for (uint64_t i = 0; i < size(); ++i) {
      hasher.add(hash64(key(i)));
      hasher.add(static_cast<uint64_t>(label(i)));
      hasher.add(pictures_.item);
    }
    return hasher.digest();
  }

 private:
  struct Place {
    uint32_t number = 0;
    uint8_t label = 0;
  };

  std::string stem_;
  IdxFile pictures_;
  std::vector<Place> places_;
};

}  // namespace

std::shared_ptr<Source> open_idx(Spec& spec, const Report& report) {
  const std::string stem = spec.word("split", {"train", "test"}) == "test" ? "t10k" : "train";
  const auto list = spec.text("classes");
  spec.refuse_unknown();
  const Path folder = spec.path;
  IdxFile pictures = open_file(folder, stem + "-images", 3);
  IdxFile labels = open_file(folder, stem + "-labels", 1);
  if (pictures.sizes[0] != labels.sizes[0])
    fail(Exit::usage, "{}: {} pictures, but {} labels in {}", printable(pictures.path.string()),
         pictures.sizes[0], labels.sizes[0], labels.path.filename().string());
  open_content(pictures);
  open_content(labels);
  return std::make_shared<IdxSource>(stem, std::move(pictures), std::move(labels),
                                     class_names(list, folder / "classes.txt"), report);
}

}  // namespace nfscale
