#include "base/lease.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/testing.h"

namespace nfscale {
namespace {

constexpr double kSeconds = 0.4;

// PATH as a holder on another machine leaves it, who last renewed it `age` seconds ago.
void hold_elsewhere(const Path& path, double age, int64_t term = 7) {
  write_file(path, Json::object({{"host", "elsewhere"},
                                 {"process", 1},
                                 {"since", "2026-01-31T12:00:00Z"},
                                 {"term", term},
                                 {"seconds", kSeconds},
                                 {"nonce", "n"},
                                 {"place", "another boot"},
                                 {"process_start", 1}})
                       .dump());
  timespec times[2];
  ::clock_gettime(CLOCK_REALTIME, &times[1]);
  times[1].tv_sec -= static_cast<time_t>(age);
  times[0] = times[1];
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

std::string refusal(const Path& path) {
  try {
    const Lease lease(path, "the study X", kSeconds);
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    return e.what();
  }
  return "";
}

int64_t term_of(const Path& path) {
  return parse_json(read_file(path), "lease").at("term").as_int();
}

struct Place {
  TestFolder folder;
  Path path = folder.path / "controller";
  Place() { set_log_level(LogLevel::quiet); }
  size_t files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder.path), {}));
  }
};

TEST(Lease, ASecondHolderIsRefusedByTheNameOfTheFirst) {
  Place place;
  {
    const Lease first(place.path, "the study X", kSeconds);
    const std::string text = refusal(place.path);
    EXPECT_TRUE(text.starts_with("the study X is held by another nfscale: host ")) << text;
    EXPECT_NE(text.find("process " + std::to_string(::getpid())), std::string::npos) << text;
    EXPECT_NE(text.find(", until 20"), std::string::npos) << text;
    EXPECT_TRUE(lease_holder(place.path));
    first.check();
  }
  EXPECT_EQ(place.files(), 0u);  // given back
  EXPECT_FALSE(lease_holder(place.path));
}

TEST(Lease, AHolderOfThisMachineThatIsGoneFreesItAtOnce) {
  Place place;
  const pid_t child = ::fork();
  if (child == 0) {
    new Lease(place.path, "the study X", 3600);
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(std::filesystem::exists(place.path));
  EXPECT_FALSE(lease_holder(place.path));
  const Lease second(place.path, "the study X", 3600);
  EXPECT_EQ(term_of(place.path), 2);
  second.check();
}

TEST(Lease, ATermBeyondAllMeasureIsOfNoHolder) {
  for (const int64_t term : {INT64_MAX, int64_t{1} << 53, int64_t{-1}}) {
    Place place;
    hold_elsewhere(place.path, 0, term);
    write_file(place.path.string() + "." + std::to_string(term), "");
    const Lease lease(place.path, "the study X", kSeconds);
    EXPECT_EQ(term_of(place.path), 1);
  }
  Place place;
  write_file(place.path.string() + "." + std::to_string((int64_t{1} << 53) - 1), "");
  try {
    const Lease lease(place.path, "the study X", kSeconds);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::damaged) << e.what();
  }
}

TEST(Lease, AHolderElsewhereIsBelievedAsLongAsItRenews) {
  Place place;
  hold_elsewhere(place.path, 0);
  EXPECT_TRUE(lease_holder(place.path));
  std::atomic<bool> over = false;
  std::thread renews([&] {
    while (!over) {
      ::utimensat(AT_FDCWD, place.path.c_str(), nullptr, 0);
      ::usleep(static_cast<useconds_t>(kSeconds / 4 * 1e6));
    }
  });
  const std::string text = refusal(place.path);
  over = true;
  renews.join();
  EXPECT_NE(text.find("host elsewhere, process 1, since 2026-01-31T12:00:00Z"), std::string::npos)
      << text;
  EXPECT_EQ(term_of(place.path), 7);
}

// Long silent, just renewed by a machine that then died, and renewed by a clock that then went back
// by an hour.
TEST(Lease, ASilentHolderElsewhereIsFollowedWhateverTheClocks) {
  for (const double age : {3600.0, 0.0, -3600.0}) {
    Place place;
    hold_elsewhere(place.path, age);
    const Lease lease(place.path, "the study X", kSeconds);
    EXPECT_EQ(term_of(place.path), 8) << age;
    EXPECT_EQ(place.files(), 1u);
  }
}

// A clock that went forward by an hour makes a living holder look old.
TEST(Lease, AStepOfTheClockTakesNothingFromALivingHolder) {
  Place place;
  hold_elsewhere(place.path, 3600);
  std::atomic<bool> over = false;
  std::thread renews([&] {
    while (!over) {
      ::usleep(static_cast<useconds_t>(kSeconds / 8 * 1e6));
      ::utimensat(AT_FDCWD, place.path.c_str(), nullptr, 0);
    }
  });
  EXPECT_NE(refusal(place.path), "");
  over = true;
  renews.join();
}

TEST(Lease, WhoHasLostItIsToldAndTakesNothingBack) {
  Place place;
  {
    const Lease lost(place.path, "the study X", kSeconds);
    lost.check();
    hold_elsewhere(place.path, 0);
    try {
      lost.check();
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::usage);
      EXPECT_NE(std::string(e.what()).find("held by another nfscale: host elsewhere"),
                std::string::npos);
    }
  }
  EXPECT_EQ(term_of(place.path), 7);
}

// Killed, but nobody has waited for it yet.
TEST(Lease, AZombieHoldsNothing) {
  Place place;
  const pid_t child = ::fork();
  if (child == 0) {
    new Lease(place.path, "the study X", 3600);
    ::raise(SIGKILL);
  }
  siginfo_t info;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_FALSE(lease_holder(place.path));
  { const Lease second(place.path, "the study X", 3600); }
  ::waitpid(child, nullptr, 0);
}

TEST(Lease, AFolderThatIsTakenAwayIsALostLease) {
  Place place;
  const Lease lease(place.path, "the study X", kSeconds);
  std::filesystem::remove(place.path);
  EXPECT_THROW(lease.check(), Error);
}

TEST(Lease, FilesThatAreNoHoldersHoldNothing) {
  for (const char* text : {"", "host old, process 1\n", "{\"nonce\":3}", "{\"nonce\""}) {
    Place place;
    write_file(place.path, text);
    const Lease lease(place.path, "the study X", 3600);
    EXPECT_EQ(term_of(place.path), 1) << text;
  }
}

// Somebody died between making a claim and taking the name; its term is passed over.
TEST(Lease, AClaimThatWasLeftBehindExpires) {
  Place place;
  write_file(place.path.string() + ".3", "");
  const Lease lease(place.path, "the study X", kSeconds);
  EXPECT_EQ(term_of(place.path), 4);
  EXPECT_EQ(place.files(), 1u);
}

TEST(Lease, OfManyWhoTryOneHoldsIt) {
  for (const bool expired : {false, true}) {
    Place place;
    if (expired) hold_elsewhere(place.path, 3600);
    int to_parent[2], go[2];
    ASSERT_EQ(::pipe(to_parent), 0);
    ASSERT_EQ(::pipe(go), 0);
    std::vector<pid_t> children;
    for (int i = 0; i < 8; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        char c = 'n';
        ::close(go[1]);
        try {
          const Lease lease(place.path, "the study X", kSeconds);
          c = 'y';
          if (::write(to_parent[1], &c, 1) != 1) ::_exit(1);
          while (::read(go[0], &c, 1) > 0) continue;  // until all have had their answer
          lease.check();
          ::_exit(0);
        } catch (const Error&) {
          if (::write(to_parent[1], &c, 1) != 1) ::_exit(1);
          ::_exit(c == 'n' ? 0 : 1);
        }
      }
      children.push_back(child);
    }
    int held = 0;
    for (size_t i = 0; i < children.size(); ++i) {
      char c = 0;
      ASSERT_EQ(::read(to_parent[0], &c, 1), 1);
      held += c == 'y';
    }
    for (const int fd : {go[0], go[1], to_parent[0], to_parent[1]}) ::close(fd);
    for (const pid_t child : children) {
      int status = 0;
      ::waitpid(child, &status, 0);
      EXPECT_EQ(status, 0);
    }
    EXPECT_EQ(held, 1) << expired;
  }
}

}  // namespace
}  // namespace nfscale
