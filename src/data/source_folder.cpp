// folder: DIR/CLASS/**/picture. Classes are the folders in DIR in the order of their bytes (1, 10,
// 2), examples are sorted by the bytes of their path. Links are followed, but no folder is visited
// twice and none that lies in DIR by another name.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "data/file_range.h"
#include "data/spec.h"

namespace nfscale {
namespace {

namespace fs = std::filesystem;

struct File {
  std::string key;  // the path within the folder
  int64_t label = 0;
  FileIdentity identity;
};

bool has_picture_name(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const std::string_view ending : {".jpg", ".jpeg", ".png", ".webp"})
    if (name.size() > ending.size() && name.ends_with(ending)) return true;
  return false;
}

class Walk {
 public:
  explicit Walk(fs::path root) : root_(std::move(root)) {
    std::error_code error;
    real_root_ = fs::canonical(root_, error);
    if (error || !fs::is_directory(real_root_))
      fail(Exit::usage, "{}: {}", printable(root_.string()),
           error ? "cannot be read: " + error.message() : "not a folder");
  }

  std::vector<std::string> classes;
  std::vector<File> files;

  void run() {
    std::vector<std::string> folders;
    for (const std::string& name : names_in(root_)) {
      if (fs::is_directory(root_ / name) && may_enter(root_ / name))
        classes.push_back(name);
      else
        ++other_;
    }
    for (size_t c = 0; c < classes.size(); ++c) visit(classes[c], static_cast<int64_t>(c));
    std::sort(files.begin(), files.end(),
              [](const File& a, const File& b) { return a.key < b.key; });
    if (other_ + dangling_ + again_ > 0)
      say("{}: passed over: {} files that are no pictures of a class, {} links to nothing, {} "
          "links "
          "to folders that are there already",
          printable(root_.string()), other_, dangling_, again_);
  }

 private:
  std::vector<std::string> names_in(const fs::path& folder) const {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator i(folder, error), end; !error && i != end; i.increment(error))
      if (std::string name = i->path().filename().string(); !name.starts_with('.'))
        names.push_back(std::move(name));
    if (error) fail_io(folder, "listing", error.value());
    std::sort(names.begin(), names.end());
    return names;
  }

  // A folder by its own name always; by a link only where that brings something new.
  bool may_enter(const fs::path& folder) {
    if (!fs::is_symlink(folder)) return true;
    const std::string real = fs::canonical(folder).string() + "/", root = real_root_.string() + "/";
    const bool known = real.starts_with(root) || root.starts_with(real);
    if (!known && linked_.insert(real).second) return true;
    ++again_;
    return false;
  }

  void visit(const std::string& inside, int64_t label) {
    for (const std::string& name : names_in(root_ / inside)) {
      const std::string key = inside + "/" + name;
      const fs::path path = root_ / key;
      struct stat info {};
      if (::stat(path.c_str(), &info) != 0) {
        ++dangling_;
      } else if (S_ISDIR(info.st_mode)) {
        if (may_enter(path)) visit(key, label);
      } else if (S_ISREG(info.st_mode) && has_picture_name(name)) {
        files.push_back({key,
                         label,
                         {static_cast<uint64_t>(info.st_size),
                          info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec}});
      } else {
        ++other_;
      }
    }
  }

  fs::path root_, real_root_;
  std::set<std::string> linked_;
  int64_t other_ = 0, dangling_ = 0, again_ = 0;
};

class FolderSource : public Source {
 public:
  FolderSource(std::string root, Walk walk, bool allow_empty)
      : root_(std::move(root)), files_(std::move(walk.files)) {
    classes_ = std::move(walk.classes);
    named_ = true;
    std::vector<bool> used(classes_.size());
    for (const File& f : files_) used[static_cast<size_t>(f.label)] = true;
    for (size_t c = 0; c < classes_.size(); ++c) {
      if (used[c]) continue;
      warn("{}: the class {} has no picture", printable(root_), printable(classes_[c]));
      if (!allow_empty) empty_classes_.push_back(classes_[c]);
    }
  }
  uint64_t size() const override { return files_.size(); }
  Example read(uint64_t i) const override {
    const File& f = files_.at(i);
    const std::string path = (Path(root_) / f.key).string();
    return {.key = f.key,
            .label = f.label,
            .bytes = read_range(path, f.identity, 0, static_cast<size_t>(f.identity.size)),
            .picture = {},
            .file = path,
            .offset = 0};
  }
  std::string key(uint64_t i) const override { return files_.at(i).key; }
  int64_t label(uint64_t i) const override { return files_.at(i).label; }
  std::string fingerprint() const override {
    Hasher hasher;
    for (const File& f : files_) {
      hasher.add(hash64(f.key));
      hasher.add(static_cast<uint64_t>(f.label));
      hasher.add(f.identity.size);
    }
    return hasher.digest();
  }

 private:
  std::string root_;
  std::vector<File> files_;
};

}  // namespace

std::shared_ptr<Source> open_folder(Spec& spec, const Report&) {
  const bool allow_empty = spec.integer("allow_empty", 0, 0, 1) == 1;
  spec.refuse_unknown();
  if (spec.path.empty()) fail(Exit::usage, "{}: no folder is named", printable(spec.whole));
  Walk walk(spec.path);
  walk.run();
  if (walk.classes.empty())
    fail(Exit::usage, "{}: no folder in it; expected one for each class", printable(spec.path));
  return std::make_shared<FolderSource>(spec.path, std::move(walk), allow_empty);
}

}  // namespace nfscale
