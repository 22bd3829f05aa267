// The one owner of standard error and standard output.
//
// Log lines and the live progress line share a terminal: a log line erases the live line, is
// printed, and the live line is drawn again. Away from a terminal there are no escape codes and no
// carriage returns, and live() prints a plain line now and then.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace nfscale {

enum class LogLevel { debug, info, warning, error, quiet };
void set_log_level(LogLevel level);

// Everything said is also appended to this file; an empty path ends that.
void set_log_file(const Path& path);

void log_line(LogLevel level, std::string_view text);

template <class... Args>
void say(fmt::format_string<Args...> text, Args&&... args) {
  log_line(LogLevel::info, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> text, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(text, std::forward<Args>(args)...));
}

// The state of a long work: what, done/total, rate, ETA. Call as often as you like: it is redrawn
// at most ten times a second on a terminal, and printed every 30 s elsewhere (first after 10 s).
void live(std::string_view line);
void end_live();

// A result: to standard output. A closed pipe ends the program quietly; other faults are
// Exit::system.
void print(std::string_view text);

std::string duration_text(double seconds);  // "4 s", "3 min 20 s", "2 h 05 min"
std::string bytes_text(double bytes);       // "1.5 GB"

}  // namespace nfscale
