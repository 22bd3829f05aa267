#include "study/store.h"

#include <gtest/gtest.h>

#include "study/test_study.h"

namespace nfscale {
namespace {

Json id(const char* run) {
  return Json::object({{"run_id", run}});
}

Json sealed(const char* target, double loss) {
  return Json::object({{"prediction", Json::object({{"target", target}, {"loss", loss}})},
                       {"seal", "s" + number_text(loss)}});
}

void fill(const Path& out) {
  Store store(out);
  store.append("chosen", Json::object({{"run_id", "a"}, {"lr", 0.1}}));
  store.append("submitting", id("a"));
  store.append("submitted", id("a"));
  store.append(
      "failed",
      Json::object(
          {{"run_id", "a"}, {"final", false}, {"wall_s", 7}, {"reason", "no\ttab\nsurvives"}}));
  store.append("submitting", id("a"));
  store.append("step_time", Json::object({{"key", "m 16 cpu"}, {"seconds", 0.5}}));
  store.append("finished", Json::object({{"run_id", "a"}, {"state", "done"}}));
  store.append("sealed", sealed("m@1ep", 0.1));
  store.append("chosen", Json::object({{"run_id", "t"}, {"cell", "m@1ep"}}));
  store.append("sealed", sealed("m@1ep", 0.2));
}

std::string only_log(const Path& out) {
  for (const auto& entry : std::filesystem::directory_iterator(out / "store"))
    if (entry.path().extension() == ".log") return entry.path().string();
  return "";
}

TEST(Store, ReplayTellsWhatWasDecided) {
  FastFiles door;
  const ScopedFiles scope(door);
  TestFolder folder;
  fill(folder.path);
  const StoreState state = read_store(folder.path / "store").state;
  const TrialRecord& a = state.trials.at("a");
  EXPECT_EQ(a.state, "done");
  EXPECT_EQ(a.starts, 2);
  EXPECT_EQ(a.failures, 1);
  EXPECT_EQ(a.failed_s, 7);
  // Every seal is kept, the second one is too late.
  ASSERT_EQ(state.sealed.size(), 2u);
  EXPECT_EQ(state.sealed[0].prediction.at("loss").as_double(), 0.1);
  EXPECT_EQ(state.sealed[1].seal, "s0.2");
  EXPECT_FALSE(state.sealed[0].late);
  EXPECT_TRUE(state.sealed[1].late);
  EXPECT_EQ(state.step_times.at("m 16 cpu"), 0.5);
  Store again(folder.path);  // a second controller after the first has gone: a new file
  again.append("chosen", id("b"));
  EXPECT_EQ(read_store(folder.path / "store").last_number, 2);
}

TEST(Store, ALogCutAnywhereLosesOnlyItsLastRecord) {
  FastFiles door;
  const ScopedFiles scope(door);
  TestFolder folder;
  fill(folder.path);
  const std::string file = only_log(folder.path), whole = read_file(file);
  std::vector<size_t> ends;
  for (size_t i = 0; i < whole.size(); ++i)
    if (whole[i] == '\n') ends.push_back(i);
  for (size_t size = 0; size <= whole.size(); ++size) {
    write_file(file, whole.substr(0, size));
    const StoreContents contents = read_store(folder.path / "store");
    // A record without its line end is whole.
    const auto records = static_cast<size_t>(
        std::count_if(ends.begin(), ends.end(), [&](size_t e) { return e <= size; }));
    ASSERT_EQ(contents.state.records, records) << size;
    // A prediction is there as it was written, or not at all.
    const size_t seals = records < 8 ? 0 : records < 10 ? 1 : 2;
    ASSERT_EQ(contents.state.sealed.size(), seals) << size;
    if (seals > 0) {
      ASSERT_EQ(contents.state.sealed[0].seal, "s0.1");
    }
    const bool clean = size == 0 || std::find(ends.begin(), ends.end(), size) != ends.end() ||
                       std::find(ends.begin(), ends.end(), size - 1) != ends.end();
    ASSERT_EQ(contents.torn.empty(), clean) << size;
  }
}

// Of the one log, which a repair moves aside.
void expect_damage(const Path& out, const std::string& place) {
  try {
    read_store(out / "store");
    ADD_FAILURE() << "read, expected damage at " << place;
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::damaged);
    EXPECT_TRUE(std::string(e.what()).starts_with(place)) << e.what();
  }
  EXPECT_EQ(repair_store(out).size(), 1u);
  EXPECT_EQ(read_store(out / "store").state.records, 0u);
}

TEST(Store, ADamagedRecordNamesFileAndLine) {
  FastFiles door;
  const ScopedFiles scope(door);
  TestFolder folder;
  fill(folder.path);
  const std::string file = only_log(folder.path);
  std::string text = read_file(file);
  text[text.find("submitting")] = 'S';
  write_file(file, text);
  expect_damage(folder.path, file + ":2: ");
}

// Whole by its checksum, and not ours: somebody else wrote it, or an older program.
TEST(Store, ARecordOfOtherValuesIsDamageWithFileAndLine) {
  FastFiles door;
  const ScopedFiles scope(door);
  for (const char* record : {R"({"kind": "step_time", "key": 5, "seconds": 1})",
                             R"({"kind": "step_time", "key": "k", "seconds": "x"})",
                             R"({"kind": "failed", "run_id": "a", "final": "yes"})"}) {
    TestFolder folder;
    fill(folder.path);
    const std::string file = only_log(folder.path);
    write_file(file, record_line(parse_json(record, "record")) + read_file(file));
    expect_damage(folder.path, file + ":1: ");
  }
}

TEST(Store, ARepairIsRefusedWhileAControllerIsAtWork) {
  TestFolder folder;
  const Store store(folder.path);
  try {
    repair_store(folder.path);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    EXPECT_NE(std::string(e.what()).find("is held by another nfscale"), std::string::npos);
  }
}

TEST(Store, LogsHaveTheOrderOfTheirNumbers) {
  FastFiles door;
  const ScopedFiles scope(door);
  TestFolder folder;
  std::filesystem::create_directory(folder.path / "store");
  const auto finished = [](const char* state) {
    return record_line(Json::object({{"kind", "finished"}, {"run_id", "a"}, {"state", state}}));
  };
  folder.write("store/9999-b.log", finished("diverged"));
  folder.write("store/10000-a.log", finished("done"));
  const StoreContents contents = read_store(folder.path / "store");
  EXPECT_EQ(contents.state.trials.at("a").state, "done");
  EXPECT_EQ(contents.last_number, 10000);
}

TEST(Store, ASecondControllerIsRefusedByName) {
  TestFolder folder;
  Store first(folder.path);
  try {
    Store second(folder.path);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    EXPECT_NE(std::string(e.what()).find("process " + std::to_string(::getpid())),
              std::string::npos);
  }
  EXPECT_TRUE(live_controller(folder.path));
}

}  // namespace
}  // namespace nfscale
