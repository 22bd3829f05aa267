// metrics.jsonl and its copy for TensorBoard: one object a logged step, each step once, whatever
// the restarts.
#pragma once

#include <string>

#include "base/files.h"
#include "base/json.h"

namespace nfscale {

class Metrics {
 public:
  Metrics() = default;
  // Cuts RUN/metrics.jsonl back to the lines of steps up to `step`; a half-written line goes too.
  // TensorBoard's file is made anew from what stays: a file that a kill cut is never appended to.
  Metrics(const Path& run, uint64_t step, bool tensorboard);

  // An object with "step", "time" and numbers; null members are left out of TensorBoard's file.
  void write(const Json& line);

 private:
  AppendLog lines_, events_;
};

}  // namespace nfscale
