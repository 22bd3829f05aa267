#include "train/checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace nfscale {
namespace {

struct Folder {
  Path path =
      std::filesystem::temp_directory_path() / fmt::format("nfscale-checkpoint-{}", ::getpid());
  Folder() {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

const std::vector<float> kNumbers = {1, 2, 3, 4};

void save_step(const Path& folder, uint64_t step) {
  const TensorView tensor{"w", Dtype::f32, {4}, std::as_bytes(std::span(kNumbers))};
  save_checkpoint(folder, {.step = step,
                           .metadata = {},
                           .tensors = {{"model", {tensor}}, {"optimizer", {tensor}}},
                           .state = Json::object({{"step", step}})});
}

// Fails operation n, and everything behind it: what a full disk or a kill leaves.
class FailingFiles : public Files {
 public:
  explicit FailingFiles(int n) : left_(n) {}
  bool failed() const { return left_ <= 0; }
  int open(const Path& p, int f) override { return next(), Files::open(p, f); }
  void write(int fd, std::span<const std::byte> b, const Path& p) override {
    if (left_ == 1)
      Files::write(fd, b.first(b.size() / 2), p);  // a write that was cut in the middle
    next();
    Files::write(fd, b, p);
  }
  void sync(int fd, const Path& p) override { next(), Files::sync(fd, p); }
  void rename(const Path& a, const Path& b) override { next(), Files::rename(a, b); }
  void sync_folder(const Path& p) override { next(), Files::sync_folder(p); }
  void make_folder(const Path& p) override { next(), Files::make_folder(p); }
  void remove(const Path& p) override { next(), Files::remove(p); }

 private:
  void next() {
    if (--left_ <= 0) fail(Exit::system, "no space left");
  }
  int left_;
};

TEST(Checkpoint, AFailureOfAnyOperationLeavesAWholeCheckpoint) {
  int n = 1;
  for (bool failed = true; failed; ++n) {
    const Folder folder;
    save_step(folder.path, 2);
    FailingFiles faulty(n);
    {
      const ScopedFiles scope(faulty);
      try {
        save_step(folder.path, 4);
      } catch (const Error& e) {
        EXPECT_EQ(e.code, Exit::system);
      }
    }
    failed = faulty.failed();
    clean_checkpoints(folder.path);
    const auto found = find_checkpoint(folder.path);
    ASSERT_TRUE(found) << "after a failure of operation " << n;
    const int64_t step = found->state.at("step").as_int();
    EXPECT_TRUE(step == 2 || step == 4);
    EXPECT_TRUE(failed || step == 4);
    for (const auto& entry : std::filesystem::directory_iterator(folder.path))
      EXPECT_NE(entry.path().extension(), ".tmp");
  }
  EXPECT_GT(n, 20);
}

void flip_a_bit(const Path& file) {
  std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
  f.seekg(40);
  const int c = f.get();
  f.seekp(40);
  f.put(static_cast<char>(c ^ 1));
}

TEST(Checkpoint, ADamagedOneIsSetAsideForTheOlderOne) {
  const std::vector<std::function<void(const Path&)>> damages = {
      [](const Path& c) { flip_a_bit(c / "optimizer.safetensors"); },
      [](const Path& c) { std::filesystem::remove(c / "state.json"); },
      [](const Path& c) { std::filesystem::resize_file(c / "MANIFEST", 60); },
      [](const Path& c) { std::filesystem::resize_file(c / "MANIFEST", 0); },
      [](const Path& c) { std::filesystem::resize_file(c / "model.safetensors", 0); }};
  for (const auto& damage : damages) {
    const Folder folder;
    save_step(folder.path, 2);
    save_step(folder.path, 4);
    damage(folder.path / "step-00000004");
    EXPECT_EQ(find_checkpoint(folder.path)->state.at("step").as_int(), 2);
    EXPECT_TRUE(std::filesystem::exists(folder.path / "bad-step-00000004"));
  }
}

TEST(Checkpoint, WithoutAGoodOneNothingStartsAfresh) {
  const Folder folder;
  save_step(folder.path, 2);
  flip_a_bit(folder.path / "step-00000002/model.safetensors");
  for (int again = 0; again < 2; ++again) {
    try {
      find_checkpoint(folder.path);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::damaged);
    }
  }
}

TEST(Checkpoint, TheNewestStayAndThoseThatAreKeptForGood) {
  const Folder folder;
  for (const uint64_t step : {1u, 2u, 3u, 4u, 5u}) save_step(folder.path, step);
  prune_checkpoints(folder.path, 2, [](uint64_t step) { return step == 2; });
  for (const uint64_t step : {1u, 2u, 3u, 4u, 5u})
    EXPECT_EQ(std::filesystem::exists(folder.path / fmt::format("step-{:08}", step)),
              step == 2 || step >= 4)
        << step;
}

}  // namespace
}  // namespace nfscale
