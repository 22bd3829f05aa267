// Where trials run. The study hands over a command and asks how it ended; it sees no tensor.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "study/study.h"

namespace nfscale {

struct Job {
  Trial trial;
  std::vector<std::string> argv;
  Path folder, log;  // the run directory; where standard output and error go
};

struct Ended {
  std::string run_id;
  int code = 0;  // as Exit; 128 + signal where one ended it
};

class Executor {
 public:
  virtual ~Executor() = default;
  virtual size_t slots() const = 0;
  virtual void start(const Job& job) = 0;              // Exit::system where the system refuses
  virtual std::vector<Ended> poll() = 0;               // those that ended since the last call
  virtual void cancel(const std::string& run_id) = 0;  // asks it to save and end
  virtual void wait() = 0;                             // until it may be worth polling again
};

// Child processes in sessions of their own. They get SIGTERM when this process ends, however it
// ends.
std::unique_ptr<Executor> local_executor(size_t slots);

}  // namespace nfscale
