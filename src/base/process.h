// This process and its children: stop signals, memory, identity.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nfscale {

// SIGTERM, SIGUSR1, SIGHUP (not under nohup) and the first SIGINT set a flag; a second SIGINT ends
// the process at once. SIGPIPE is ignored.
void catch_stop_signals();
bool stop_requested();

std::string utc_text();  // now: "2026-01-31T12:00:00Z"
std::string utc_text(double seconds_since_1970);
double now_s();  // of a clock that never goes back; only differences mean something
size_t peak_rss_bytes();
std::string host_name();
Path executable_path();

// Starts argv[0] in a session of its own, standard input closed, both outputs appended to `output`.
// It gets SIGTERM when this process dies.
pid_t start_process(const std::vector<std::string>& argv, const Path& output);

// What a command said and how it ended.
struct CommandResult {
  int code = 0;  // as poll_process; 127 where there is no such program
  bool timed_out = false;
  std::string out, err;
};
// Runs argv[0], looked for on PATH, to its end, though children of it may hold its outputs longer;
// after `seconds` it is killed with all its children.
CommandResult run_command(const std::vector<std::string>& argv, double seconds);

// A word as a POSIX shell reads it back.
std::string shell_word(std::string_view text);

// The exit code of a child that has ended (128 + signal where one killed it), -1 while it runs.
int poll_process(pid_t pid);

}  // namespace nfscale
