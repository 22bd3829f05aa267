// For tests only: a folder of one's own, and files that are written without waiting for the disk.
#pragma once

#include <unistd.h>

#include <string>

#include "base/files.h"

namespace nfscale {

struct TestFolder {
  Path path;
  TestFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "nfscale-test-XXXXXX").string();
    NFSCALE_CHECK(::mkdtemp(name.data()));
    path = name;
  }
  ~TestFolder() {
    std::error_code error;
    std::filesystem::remove_all(path, error);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  void write(const std::string& name, const std::string& text) const {
    write_file(path / name, text);
  }
};

// Without waiting for the disk.
class FastFiles : public Files {
 public:
  void sync(int, const Path&) override {}
  void sync_folder(const Path&) override {}
};

}  // namespace nfscale
