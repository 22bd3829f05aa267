#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <utility>

namespace nfscale {
namespace {

std::atomic<bool> stop_flag{false};
std::atomic<int> interrupts{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void on_stop(int signal) {
  if (signal == SIGINT && interrupts.fetch_add(1) > 0) ::_exit(130);
  stop_flag = true;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_stop;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) ::sigaction(signal, &action, nullptr);
  struct sigaction before {};
  ::sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) ::sigaction(SIGHUP, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

bool stop_requested() {
  return stop_flag;
}

std::string utc_text() {
  return utc_text(static_cast<double>(std::time(nullptr)));
}

std::string utc_text(double seconds_since_1970) {
  const auto time = static_cast<std::time_t>(seconds_since_1970);
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  char text[32];
  const size_t n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return std::string(text, n);
}

double now_s() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since).count();
}

size_t peak_rss_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

std::string host_name() {
  char host[256] = "unknown";
  ::gethostname(host, sizeof host - 1);
  return host;
}

Path executable_path() {
  return std::filesystem::read_symlink("/proc/self/exe");
}

pid_t start_process(const std::vector<std::string>& argv, const Path& output) {
  std::vector<char*> arguments;
  for (const std::string& a : argv) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (out < 0) fail_io(output, "opening", errno);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) fail_io(argv[0], "starting", errno);
  if (pid == 0) {
    ::setsid();
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(75);  // the parent died before the line above
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, 0);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execv(argv[0].c_str(), arguments.data());
    ::_exit(127);
  }
  ::close(out);
  return pid;
}

namespace {

// Both ends of a pipe, closed with the value.
struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() {
    if (::pipe2(ends, O_CLOEXEC) != 0) fail_io("a pipe", "making it", errno);
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_end(int i) {
    if (ends[i] >= 0) ::close(std::exchange(ends[i], -1));
  }
};

// What is there to be read, waited for up to `wait_s`; false where there was nothing.
bool read_both(Pipe (&pipes)[2], std::string* (&texts)[2], double wait_s) {
  constexpr size_t kMost = size_t{16} << 20;
  pollfd waited[2] = {{pipes[0].ends[0], POLLIN, 0}, {pipes[1].ends[0], POLLIN, 0}};
  if (::poll(waited, 2, static_cast<int>(wait_s * 1000)) <= 0) return false;
  for (const int i : {0, 1}) {
    if (!(waited[i].revents & (POLLIN | POLLHUP | POLLERR))) continue;
    char buffer[1 << 14];
    const ssize_t n = ::read(pipes[i].ends[0], buffer, sizeof buffer);
    if (n > 0 && texts[i]->size() < kMost) texts[i]->append(buffer, static_cast<size_t>(n));
    if (n == 0 || (n < 0 && errno != EINTR)) pipes[i].close_end(0);
  }
  return true;
}

}  // namespace

CommandResult run_command(const std::vector<std::string>& argv, double seconds) {
  std::vector<char*> arguments;
  for (const std::string& a : argv) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  Pipe pipes[2];
  const double end = now_s() + seconds;
  const pid_t pid = ::fork();
  if (pid < 0) fail_io(argv[0], "starting", errno);
  if (pid == 0) {
    ::setsid();
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, 0);
    ::dup2(pipes[0].ends[1], 1);
    ::dup2(pipes[1].ends[1], 2);
    ::execvp(argv[0].c_str(), arguments.data());
    ::_exit(127);
  }
  for (Pipe& p : pipes) p.close_end(1);
  CommandResult result;
  std::string* texts[2] = {&result.out, &result.err};
  int status = 0;
  for (;;) {
    if (::waitpid(pid, &status, WNOHANG) == pid) {
      while (read_both(pipes, texts, 0)) continue;
      break;
    }
    read_both(pipes, texts, 0.01);
    if (now_s() < end) continue;
    result.timed_out = true;
    ::kill(-pid, SIGKILL);
    ::waitpid(pid, &status, 0);
    break;
  }
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::string shell_word(std::string_view text) {
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

int poll_process(pid_t pid) {
  int status = 0;
  const pid_t ended = ::waitpid(pid, &status, WNOHANG);
  if (ended == 0) return -1;
  if (ended < 0) return 1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace nfscale
