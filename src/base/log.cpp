#include "base/log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <mutex>

#include "base/files.h"

namespace nfscale {
namespace {

using Clock = std::chrono::steady_clock;

struct Terminal {
  std::mutex mutex;
  LogLevel level = LogLevel::info;
  AppendLog file;
  std::string line;  // the live line as it stands on the terminal
  Clock::time_point drawn{}, first{};
  bool is_terminal = [] {
    const char* term = std::getenv("TERM");
    return ::isatty(2) && term && std::string_view(term) != "dumb";
  }();

  // Standard error may be closed or full: that is no reason to stop a training run.
  static void put(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::write(2, text.data(), text.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;
      text.remove_prefix(static_cast<size_t>(n));
    }
  }

  void draw() const {
    winsize size{};
    const size_t width =
        ::ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col - 1u : 79u;
    put("\r\x1b[K" + line.substr(0, width));
  }
};

Terminal& terminal() {
  static Terminal t;
  return t;
}

}  // namespace

void set_log_level(LogLevel level) {
  terminal().level = level;
}

void set_log_file(const Path& path) {
  Terminal& t = terminal();
  const std::lock_guard lock(t.mutex);
  t.file = path.empty() ? AppendLog() : AppendLog(path);
}

void log_line(LogLevel level, std::string_view text) {
  Terminal& t = terminal();
  const std::lock_guard lock(t.mutex);
  const std::string line =
      fmt::format("{}{}\n", level == LogLevel::warning ? "warning: " : "", text);
  if (t.file) {
    try {
      t.file.append(line);
    } catch (const Error&) {
      t.file = AppendLog();  // a full disk is reported by what has to be written, not by the log
    }
  }
  if (level < t.level) return;
  if (!t.line.empty()) Terminal::put("\r\x1b[K");
  Terminal::put(line);
  if (!t.line.empty()) t.draw();
}

void live(std::string_view line) {
  Terminal& t = terminal();
  const std::lock_guard lock(t.mutex);
  if (t.level > LogLevel::info) return;
  const auto now = Clock::now();
  if (t.first == Clock::time_point{}) t.first = now;
  if (t.is_terminal) {
    if (now - t.drawn < std::chrono::milliseconds(100)) return;
    t.line = line;
    t.drawn = now;
    t.draw();
  } else if (now - t.first > std::chrono::seconds(10) && now - t.drawn > std::chrono::seconds(30)) {
    t.drawn = now;
    Terminal::put(std::string(line) + "\n");
  }
}

void end_live() {
  Terminal& t = terminal();
  const std::lock_guard lock(t.mutex);
  if (!t.line.empty()) Terminal::put("\r\x1b[K");
  t.line.clear();
  t.drawn = t.first = {};
}

void print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(1, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPIPE) std::_Exit(0);
    if (n < 0) fail_io("standard output", "writing", errno);
    text.remove_prefix(static_cast<size_t>(n));
  }
}

std::string duration_text(double seconds) {
  const auto s = static_cast<long long>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  if (s < 48 * 3600) return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
  return fmt::format("{:.1f} days", seconds / 86400);
}

std::string bytes_text(double bytes) {
  if (bytes < 1e6) return fmt::format("{:.0f} kB", bytes / 1e3);
  if (bytes < 1e9) return fmt::format("{:.0f} MB", bytes / 1e6);
  return fmt::format("{:.1f} GB", bytes / 1e9);
}

}  // namespace nfscale
