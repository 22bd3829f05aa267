// How long a study of about 10,000 trials and 80,000 records takes to open and to look at:
//
//   cmake --build --preset core --target study_size && build/core/study_size
//
// Trials, run directories and records are made from an invented curve of losses; nothing is
// trained.
#include <cstdio>
#include <fstream>

#include "base/log.h"
#include "base/process.h"
#include "study/predict.h"
#include "study/status.h"
#include "study/store.h"
#include "study/table.h"
#include "study/test_study.h"

namespace nfscale {
namespace {

Study big_study(const TestFolder& folder) {
  folder.write("base.toml", kTestBase);
  std::string text =
      "study.name = \"big\"\nstudy.base = \"base.toml\"\ncompute.axis = \"flops\"\n"
      "lr.certify = \"all\"\n";
  std::string models, sets, epochs;
  for (int m = 0; m < 56; ++m) {
    models += fmt::format("\"m{}\",", m);
    sets +=
        fmt::format("[grid.set.m{}]\nmodel.name = \"nfnet_n0\"\nmodel.width = [{}, 64, 64, 64]\n",
                    m, 16 * (m + 2));
  }
  for (int e = 0; e < 56; ++e) epochs += fmt::format("{},", 1 + e);
  folder.write("s.toml",
               text + "grid.models = [" + models + "]\ngrid.epochs = [" + epochs + "]\n" + sets);
  return load_study(folder.path / "s.toml", folder.path / "out");
}

double invented_loss(const Cell& cell, int k) {
  const double d = k + 0.05 * cell.size_rank;
  return 5 / (1 + 0.01 * (cell.size_rank + cell.epoch_rank)) + 0.012 * d * d;
}

// Eight records and a result for a trial.
void write_trial(const Study& study, const Grid& grid, const Trial& trial, double loss,
                 std::string& log) {
  const Cell& cell = grid.cells[trial.cell];
  const auto record = [&](const char* kind,
                          std::initializer_list<std::pair<std::string, Json>> more) {
    Json json = Json::object({{"kind", kind}, {"time", utc_text()}, {"run_id", trial.run_id}});
    for (const auto& [key, value] : more) json.set(key, value);
    log += record_line(json);
  };
  record("chosen", {{"cell", cell.name},
                    {"model", cell.model},
                    {"lr", trial.lr},
                    {"config_hash", trial.config_hash},
                    {"why", "optimum predicted at -0.20"}});
  for (int start = 0; start < 2; ++start) {
    record("submitting", {});
    record("submitted", {});
    record("observed", {{"state", "preempted"}});
  }
  record("finished", {{"state", "done"}, {"code", 0}, {"result_hash", trial.config_hash}});
  const Path folder = study.out / "runs" / trial.run_id;
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "result.json")
      << Json::object({{"status", "done"},
                       {"steps", cell.steps},
                       {"examples", cell.images},
                       {"heldout", Json::object({{"loss", loss}, {"top1", 0.5}, {"top5", 0.9}})},
                       {"train", Json::object({{"loss", loss}})},
                       {"model", Json::object({{"name", cell.model}, {"params", cell.params}})},
                       {"compute", Json::object({{"flops", cell.flops},
                                                 {"device", "cpu"},
                                                 {"device_hours", 0.25},
                                                 {"wall_s", 900},
                                                 {"mfu", 0.3}})},
                       {"certificate", Json::object({{"ok", true}})},
                       {"config_hash", trial.config_hash}})
             .dump(1);
}

size_t make_trials(const Study& study, const Grid& grid) {
  const SearchSettings settings = search_settings(study, grid);
  std::vector<SearchCell> cells;
  for (const Cell& c : grid.cells)
    cells.push_back({.i = c.size_rank, .j = c.epoch_rank, .cost = c.flops});
  std::string log;
  size_t trials = 0;
  for (SearchResult s = search(settings, cells); !s.finished; s = search(settings, cells))
    for (const Wanted& w : s.next) {
      const double loss = invented_loss(grid.cells[w.cell], w.k) + 0.001 * w.repeat;
      if (w.repeat)
        cells[w.cell].repeats[{w.k, w.repeat}] = loss;
      else
        cells[w.cell].losses[w.k] = loss;
      write_trial(study, grid, make_trial(grid, w.cell, w.k, study.seed + w.repeat), loss, log);
      ++trials;
    }
  files().make_folder(study.out / "store");
  write_file(study.out / "store" / "0001-bench.log", log);
  return trials;
}

void run() {
  TestFolder folder;
  const Study study = big_study(folder);
  const double begun = now_s();
  const Grid grid = make_grid(study, test_data());
  std::printf("grid of %zu cells: %.3f s\n", grid.cells.size(), now_s() - begun);
  const size_t trials = make_trials(study, grid);
  for (int repeat = 0; repeat < 3; ++repeat) {
    const double start = now_s();
    const StoreState store = read_store(study.out / "store").state;
    const double opened = now_s();
    ResultCache cache;
    const StudyView view = look(study, grid, store, {}, cache);
    const double looked = now_s();
    const size_t rows = trials_table(study, grid, view, store).rows.size() +
                        cell_rows(study, grid, view).size() + status_rows(grid, view).size();
    const std::string text = status_json(study, grid, view, {}).dump();
    const double told = now_s();
    std::printf(
        "%zu trials, %zu records: open %.3f s, look %.3f s, tables and status %.3f s (%zu "
        "rows)\n",
        trials, store.records, opened - start, looked - opened, told - looked,
        rows + text.size() % 2);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace nfscale

int main() {
  nfscale::run();
}
