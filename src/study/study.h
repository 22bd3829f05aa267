// A study: which models are trained for how long, how their learning rates are searched, and what
// is made of the results. Everything here follows from the file of the study, its base
// configuration and the identity of the data; nothing is read from the data or written.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "config/load.h"

namespace nfscale {

struct Study {
  // [study]
  std::string name, question;
  Path file, base;  // base is relative to the file
  int64_t seed = 0;
  Path out;
  // [grid]
  std::vector<std::string> models;
  std::vector<Duration> epochs;
  std::vector<std::string> skip;  // "MODEL@EPOCHS"
  // Extra "KEY=VALUE", as for --set, of the models that a pattern matches; in the order of the
  // file. optim.lr is where the search of these models starts, the same in a family.
  std::vector<std::pair<std::string, std::vector<std::string>>> set;
  // [lr]
  std::optional<double> lr_start, lr_min, lr_max;
  double lr_factor = 2;
  std::string prior = "soft", certify = "frontier";
  double tolerance = 0.005;  // of the loss, relative
  double curvature = 0.012;  // nats per octave^2
  double margin = 0.15;      // octaves
  int64_t max_trials = 6;    // of a cell
  bool refine = false;
  // [noise]
  int64_t repeats = 3;
  std::string noise_cell = "cheapest";
  std::optional<double> sigma;  // nats
  // [budget]
  std::optional<double> budget_hours, budget_wall;  // device hours; seconds
  std::optional<int64_t> budget_trials;
  // [compute]
  std::string axis = "device_hours";
  // [predict]
  std::vector<std::string> targets;  // "MODEL@EPOCHS"; left out of the grid
  double hold_out = 0;               // of the largest compute; cells above the rest fit no law
  // [fit]
  std::vector<std::string> laws = {"power", "power+floor"};
  int64_t bootstrap = 1000;
  double huber = 0.001;
  bool drop_flagged = true;
  // [finetune]
  std::vector<std::string> recipes;  // relative to the file; of several each has its own runs
  int64_t candidates = 3;            // of a family
  std::optional<double> finetune_budget;
  // [executor]
  std::string executor = "local";
  int64_t slots = 1, retries = 3;
  double lease = 600;  // seconds
  std::vector<std::string> slurm_args;
  std::string slurm_setup;
  bool slurm_array = true;
  std::string command_submit, command_status, command_cancel;
};

// Exit::usage with FILE:LINE for unknown keys (with the nearest), wrong kinds and values, and
// "KEY is not supported yet" for what is not built. `out` replaces the folder of the file.
Study load_study(const Path& file, const std::optional<Path>& out);

// The resolved file: every key, plain TOML.
std::string study_toml(const Study& study);

// What a study knows of its data; handed in by the command.
struct StudyData {
  uint64_t examples = 0, heldout_examples = 0;
  int64_t classes = 0;
  std::string train_fingerprint = {}, heldout_fingerprint = {};
  std::vector<StudyData> finetune = {};  // of each recipe
};

// A model at an epoch budget.
struct Cell {
  std::string name = {}, model = {}, family = {};  // "nfnet_f0@0.25ep", "nfnet_f0", "nfnet"
  double epochs = 0;
  double lr_start = 0;                // of its model
  int size_rank = 0, epoch_rank = 0;  // place in the grid of its family, from 0
  int64_t params = 0, macs = 0;       // of one image at the training size
  int64_t batch = 0;
  uint64_t images = 0, steps = 0;
  double flops = 0;  // 6 * macs * images: forward and backward, two operations a multiply-add
  int64_t memory_bytes = 0;  // of a training step of the whole batch; an estimate
};

struct Trial {
  size_t cell = 0;   // see cell_at
  int lr_index = 0;  // see rate_at
  double lr = 0;
  int64_t seed = 0;
  std::string run_id = {}, config_hash = {};
  // Of a fine-tuning: the run that it begins with, whose cell and rate stand above, and the place
  // of its recipe.
  std::string init = {};
  size_t recipe = 0;
};

// What the best checkpoints of a study are fine-tuned with, on pictures of its own.
struct Recipe {
  std::string name = {};  // of the file, without its extension
  LoadedConfig loaded;    // not resolved
  StudyData data = {};    // no examples where they are not known
};

// Cells, and everything that the trials of a study have in common.
struct Grid {
  Config base;  // not resolved
  StudyData data;
  double lr_factor = 2;
  std::vector<Cell> cells;    // in the order of anti-diagonals of (size, epochs), cheap ones first
  std::vector<Cell> targets;  // predicted, then trained once; outside of search and fits
  std::map<std::string, std::vector<std::string>> set;  // of each model, without optim.lr
  std::map<std::string, Config> configs;                // of each model: base and set; not resolved
  std::vector<Recipe> recipes;
};

// Cells by their place in Grid::cells; the places after them are those of the targets.
const Cell& cell_at(const Grid& grid, size_t place);

// The rate of a place on a cell's grid of rates: start * factor^k.
double rate_at(const Grid& grid, const Cell& cell, double k);
// Places in Grid::cells by family, those with the first cells first.
std::vector<std::vector<size_t>> families_of(const Grid& grid);

// Reads the base configuration and counts; Exit::usage for grids that cannot be.
Grid make_grid(const Study& study, const StudyData& data);

// The settings of a trial over the base configuration, "KEY=VALUE", the extras of its model last.
std::vector<std::string> trial_settings(const Grid& grid, const Cell& cell, double lr,
                                        int64_t seed);
Trial make_trial(const Grid& grid, size_t cell, int lr_index, int64_t seed);

// "MODEL-EPOCHSep-lrLR-sSEED-HASH8", numbers as %g.
std::string run_id(const Cell& cell, double lr, int64_t seed, const std::string& config_hash);

}  // namespace nfscale
