#include "cli/measure.h"

#include <ATen/Parallel.h>

#include "base/log.h"
#include "config/load.h"
#include "train/bench.h"
#include "train/device.h"

namespace nfscale {
namespace {

std::shared_ptr<const Source> pictures_of(const Config& config) {
  if (config.data.train.empty()) return nullptr;
  try {
    return open_source(config.data.train);
  } catch (const Error& e) {
    warn("{}; steps are measured without loading pictures", e.what());
    return nullptr;
  }
}

double measure(const Config& config, const std::shared_ptr<const Source>& pictures, int64_t classes,
               int threads) {
  constexpr double kSeconds = 4;
  at::set_num_threads(threads);
  BenchOptions o;
  o.config = config;
  o.classes =
      pictures ? std::max(classes, static_cast<int64_t>(pictures->classes().size())) : classes;
  o.seconds = kSeconds;
  o.precision =
      config.train.precision == "auto" ? auto_precision(o.device) : config.train.precision;
  o.pictures = pictures;
  return 1e-3 * bench_step(o).step_ms * threads;
}

}  // namespace

double measure_step(const Config& config, int64_t classes, int threads) {
  return measure(config, pictures_of(config), classes, threads);
}

std::map<std::string, double> measure_models(const Grid& grid, int threads) {
  std::map<std::string, double> seconds;
  const std::shared_ptr<const Source> pictures = pictures_of(grid.base);
  for (const auto& [model, config] : grid.configs) {
    live(fmt::format("measuring a step of {} ({} of {})", model, seconds.size() + 1,
                     grid.configs.size()));
    Config resolved = config;
    resolve(resolved);
    seconds[model] = measure(resolved, pictures, grid.data.classes, threads);
  }
  end_live();
  return seconds;
}

}  // namespace nfscale
