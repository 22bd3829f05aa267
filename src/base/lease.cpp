#include "base/lease.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"

namespace nfscale {
namespace {

struct Holder {
  std::string nonce, host, place, since;
  int64_t process = 0, process_start = 0, term = 0;
  double seconds = 0;
  std::string text() const {
    return host.empty() ? "holder unknown"
                        : fmt::format("host {}, process {}, since {}", host, process, since);
  }
};

// Where process numbers mean the same: a boot of a machine and a name space of processes in it.
std::string this_place() {
  std::error_code error;
  const Path space = std::filesystem::read_symlink("/proc/self/ns/pid", error);
  std::string boot;
  try {
    boot = read_file("/proc/sys/kernel/random/boot_id", 256);
  } catch (const Error&) {
    return "";
  }
  return error ? "" : boot.substr(0, boot.find('\n')) + " " + space.string();
}

// Fields of /proc/PID/stat from the third on: state, ..., start in ticks since the boot. Empty
// where they cannot be read.
std::vector<std::string> stat_of(int64_t process) {
  try {
    const std::string text = read_file(fmt::format("/proc/{}/stat", process), 4096);
    const size_t behind_name = text.rfind(')');
    if (behind_name == std::string::npos) return {};
    return split(text.substr(behind_name + 2), ' ');
  } catch (const Error&) {
    return {};
  }
}
constexpr size_t kStart = 19;

int64_t start_of(const std::vector<std::string>& stat) {
  return stat.size() > kStart ? parse_int(stat[kStart]).value_or(0) : 0;
}

std::string holder_text(const Holder& h) {
  return Json::object({{"host", h.host},
                       {"process", h.process},
                       {"since", h.since},
                       {"term", h.term},
                       {"seconds", h.seconds},
                       {"nonce", h.nonce},
                       {"place", h.place},
                       {"process_start", h.process_start}})
             .dump() +
         "\n";
}

Holder me(int64_t term, double seconds) {
  Holder h;
  h.host = host_name();
  h.process = ::getpid();
  h.process_start = start_of(stat_of(h.process));
  h.place = this_place();
  h.since = utc_text();
  h.term = term;
  h.seconds = seconds;
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  h.nonce =
      fmt::format("{:016x}", hash64(fmt::format("{} {} {} {}", h.host, h.place, h.process, now)));
  return h;
}

constexpr int64_t kMostTerms = int64_t{1} << 53;

// A file that cannot be read as a whole holder tells nothing but its age: it may be half written.
Holder parse_holder(const std::string& text) {
  Holder h;
  try {
    const Json json = parse_json(text, "lease");
    h.nonce = json.at("nonce").as_string();
    h.place = json.at("place").as_string();
    h.since = printable(json.at("since").as_string());
    h.process = json.at("process").as_int();
    h.process_start = json.at("process_start").as_int();
    h.term = json.at("term").as_int();
    if (h.term < 0 || h.term >= kMostTerms) fail(Exit::usage, "no term");
    h.seconds = json.at("seconds").as_double();
    h.host = printable(json.at("host").as_string());
  } catch (const Error&) {
    h = Holder();
  }
  return h;
}

struct Seen {
  Holder holder;
  double changed = 0;  // s, by the clock of the file system
  std::string text() const {
    return holder.text() + (holder.host.empty()
                                ? ""
                                : ", until " + utc_text(changed + holder.seconds) + " at least");
  }
};

double changed(const struct stat& info) {
  return static_cast<double>(info.st_mtim.tv_sec) +
         1e-9 * static_cast<double>(info.st_mtim.tv_nsec);
}

// Nothing where there is no file.
std::optional<Seen> look_at(const Path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return std::nullopt;
  if (fd < 0) fail_io(file, "opening", errno);
  struct stat info {};
  char text[4096];
  const bool known = ::fstat(fd, &info) == 0;
  const ssize_t n = ::read(fd, text, sizeof text);
  const int error = errno;
  ::close(fd);
  if (!known || n < 0) {
    if (error == ESTALE) return std::nullopt;
    fail_io(file, "reading", error);
  }
  return Seen{parse_holder(std::string(text, static_cast<size_t>(n))), changed(info)};
}

// The same holder, which has not renewed its lease.
bool is_same(const std::optional<Seen>& now, const Seen& before) {
  return now && now->holder.nonce == before.holder.nonce && now->changed == before.changed;
}

// Now, by the clock of the file system that a file is on.
double file_clock(const Path& file) {
  const Path probe = file.string() + fmt::format(".{}.{}.tmp", host_name(), ::getpid());
  files().remove(probe);
  const int fd = files().open(probe, O_WRONLY | O_CREAT | O_EXCL);
  struct stat info {};
  const int result = ::fstat(fd, &info), error = errno;
  ::close(fd);
  files().remove(probe);
  if (result != 0) fail_io(probe, "reading", error);
  return changed(info);
}

// A file PATH.TERM of somebody who is about to take over.
struct Claim {
  Path file;
  int64_t term = 0;
};
// In the order of their terms.
std::vector<Claim> claims_of(const Path& path) {
  std::vector<Claim> claims;
  const std::string start = path.filename().string() + ".";
  std::error_code error;
  for (std::filesystem::directory_iterator i(path.parent_path(), error), end; !error && i != end;
       i.increment(error)) {
    const std::string name = i->path().filename().string();
    if (!name.starts_with(start)) continue;
    const auto term = parse_int(name.substr(start.size()));
    if (term && *term > 0 && *term < kMostTerms) claims.push_back({i->path(), *term});
  }
  if (error) fail_io(path.parent_path(), "listing it", error.value());
  std::sort(claims.begin(), claims.end(),
            [](const Claim& a, const Claim& b) { return a.term < b.term; });
  return claims;
}

enum class Life { alive, gone, unknown };

// Only of a holder of this place can it be told, and not where its process is hidden.
Life life_of(const Holder& h) {
  if (h.place.empty() || h.place != this_place()) return Life::unknown;
  if (::kill(static_cast<pid_t>(h.process), 0) != 0 && errno == ESRCH) return Life::gone;
  const std::vector<std::string> stat = stat_of(h.process);
  if (stat.empty() || h.process_start == 0) return Life::unknown;
  const bool ended = stat[0] == "Z" || stat[0] == "X";  // nobody has waited for it yet
  return !ended && start_of(stat) == h.process_start ? Life::alive : Life::gone;
}

// Where nothing was heard of a holder for `seconds`, and nothing is while it is watched for half of
// them, in which a living one renews its lease at least once. Where the clock went back in between,
// it is watched for all of them.
bool has_expired(const Path& file, const Seen& seen, const std::string& what, double seconds) {
  const double begin = now_s();
  bool said = false;
  for (;;) {
    if (stop_requested())
      fail(Exit::preempted, "{}: stopped while waiting for {}", what, seen.holder.text());
    const bool old = file_clock(file) - seen.changed > seconds;
    if (now_s() - begin > (old ? seconds / 2 : seconds)) return true;
    if (!is_same(look_at(file), seen)) return false;
    if (!std::exchange(said, true))
      say("{}: waiting up to {:.0f} s whether {} still holds it", what, seconds,
          seen.holder.text());
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(0.5, seconds / 10)));
  }
}

// Whether the holder is gone; Exit::usage where it is not.
void judge(const Path& file, const Seen& seen, const std::string& what, double seconds) {
  const Life life = life_of(seen.holder);
  if (life == Life::gone || (life == Life::unknown && has_expired(file, seen, what, seconds)))
    return;
  // It may have renewed its lease or have given it back meanwhile.
  const auto now = look_at(file);
  if (now) fail(Exit::usage, "{} is held by another nfscale: {}", what, now->text());
}

// A file of this process, with its name and its descriptor, removed again unless it is kept.
class OwnFile {
 public:
  OwnFile(Path path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~OwnFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(path_.c_str());
  }
  OwnFile(const OwnFile&) = delete;
  OwnFile& operator=(const OwnFile&) = delete;
  int fd() const { return fd_; }
  const Path& path() const { return path_; }
  int keep() { return std::exchange(fd_, -1); }

 private:
  Path path_;
  int fd_;
};

// Gives a whole file the name of a claim, or makes the claim and fills it where the file system has
// no second names. Nothing where the claim is there already.
std::unique_ptr<OwnFile> make_claim(const Path& claim, const Holder& holder) {
  const auto fill = [&](int fd, const Path& file) {
    files().write(fd, bytes_of(holder_text(holder)), file);
    files().sync(fd, file);
  };
  const Path whole = claim.string() + "." + holder.nonce + ".tmp";
  OwnFile file(whole, files().open(whole, O_RDWR | O_CREAT | O_EXCL));
  fill(file.fd(), whole);
  if (::link(whole.c_str(), claim.c_str()) == 0) {
    ::unlink(whole.c_str());
    return std::make_unique<OwnFile>(claim, file.keep());
  }
  if (errno == EEXIST) return nullptr;
  const int fd = ::open(claim.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0 && errno == EEXIST) return nullptr;
  if (fd < 0) fail_io(claim, "making it", errno);
  auto made = std::make_unique<OwnFile>(claim, fd);
  fill(fd, claim);
  return made;
}

}  // namespace

Lease::Lease(Path path, std::string what, double seconds)
    : path_(std::move(path)), what_(std::move(what)), seconds_(seconds) {
  take();
  thread_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (
        !ended_.wait_for(lock, std::chrono::duration<double>(seconds_ / 4), [&] { return over_; }))
      renew();
  });
}

void Lease::take() {
  for (bool again = false;; again = true) {
    if (again && stop_requested()) fail(Exit::preempted, "stopped while {} was asked for", what_);
    const auto named = look_at(path_);
    // PATH is whole whenever it is there: what cannot be read is of no holder.
    if (named && !named->holder.nonce.empty()) judge(path_, *named, what_, seconds_);
    int64_t term = named ? named->holder.term : 0;
    const std::vector<Claim> before = claims_of(path_);
    if (!before.empty()) {
      const Claim& last = before.back();
      if (const auto seen = look_at(last.file)) judge(last.file, *seen, what_, seconds_);
      term = std::max(term, last.term);
    }
    if (++term >= kMostTerms)
      fail(Exit::damaged, "{}.{}: no lease has come so far; remove it", path_.string(), term - 1);
    const Holder mine = me(term, seconds_);
    const auto claim = make_claim(path_.string() + "." + std::to_string(term), mine);
    if (!claim) continue;
    // Others may have come and gone since they were judged.
    const auto now = look_at(path_);
    if (named ? !is_same(now, *named) : now.has_value()) continue;
    const std::vector<Claim> after = claims_of(path_);
    if (after.empty() || after.back().term != term) continue;
    files().rename(claim->path(), path_);
    fd_ = claim->keep();
    nonce_ = mine.nonce;
    for (const Claim& c : before) files().remove(c.file);
    return;
  }
}

void Lease::renew() {
  // Its own file, even where another one has taken over.
  ::futimens(fd_, nullptr);
  try {
    if (!is_mine()) lost_ = true;
  } catch (const Error&) {
    // A file system that does not answer for a while takes nothing away.
  }
}

bool Lease::is_mine() const {
  const auto now = look_at(path_);
  return now && now->holder.nonce == nonce_;
}

Lease::~Lease() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  ended_.notify_all();
  thread_.join();
  ::close(fd_);
  try {
    if (is_mine()) files().remove(path_);
  } catch (const std::exception&) {
    // Whoever comes next finds that this process is gone.
  }
}

void Lease::check() const {
  const auto now = look_at(path_);
  if (now && now->holder.nonce == nonce_) return;
  fail(Exit::usage, "{} is held by another nfscale: {}; this one did not renew its lease in time",
       what_, now ? now->text() : "its file " + path_.string() + " was removed");
}

std::optional<std::string> lease_holder(const Path& path) {
  try {
    const auto seen = look_at(path);
    if (!seen || seen->holder.host.empty()) return std::nullopt;
    const Life life = life_of(seen->holder);
    if (life == Life::gone) return std::nullopt;
    if (life == Life::unknown && file_clock(path) - seen->changed > seen->holder.seconds)
      return std::nullopt;
    return seen->holder.text();
  } catch (const Error& e) {
    return e.what();
  }
}

}  // namespace nfscale
