// This process and its children: stop signals, memory, identity.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <vector>

#include "base/error.h"

namespace nfscale {

// SIGTERM, SIGUSR1, SIGHUP and the first SIGINT set a flag; a second SIGINT ends the process at
// once. SIGPIPE is ignored.
void catch_stop_signals();
bool stop_requested();

double now_s();  // of a clock that never goes back; only differences mean something
size_t peak_rss_bytes();
std::string host_name();
Path executable_path();

// Starts argv[0] in a session of its own, standard input closed, both outputs appended to `output`.
// It gets SIGTERM when this process dies.
pid_t start_process(const std::vector<std::string>& argv, const Path& output);

// The exit code of a child that has ended (128 + signal where one killed it), -1 while it runs.
int poll_process(pid_t pid);

}  // namespace nfscale
