// What a study says: laws with intervals, verdicts in plain sentences, and what would decide the
// rest. Numbers in, numbers and sentences out; nothing is read or written here.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "fit/frontier.h"
#include "fit/law.h"
#include "study/families.h"
#include "study/table.h"

namespace nfscale {

// A finished trial of a cell.
struct TrialPoint {
  size_t cell = 0;  // place in the cells
  double lr = 0, loss = 0;
  std::string run_id;
};

// A checkpoint after fine-tuning.
struct FinetunedPoint {
  std::string cell, model, family;
  std::string run_id, init, recipe;      // of the fine-tuning; of its checkpoint
  double lr = 0, compute = 0, loss = 0;  // of the pretraining; nats
  double device_hours = 0, flops = 0;    // of the pretraining; hours 0: not known
  double error = 0, standard_error = 0;  // top-1, %
  bool repeated_augmentation = false;
};

struct ConcludeOptions {
  bool by_hours = true;  // the axis of compute: device hours or operations
  int draws = 1000;
  uint64_t seed = 0;         // of the draws
  double sigma = 0;          // nats; noise of a trial, 0 where it is not known
  double chance = 0;         // nats; ln(classes), 0 where it is not known
  double tolerance = 0.005;  // of the loss: cells within it of the best are as good
  double huber = 1e-3;
  bool drop_flagged = true;  // broken certificates and, of the rest, what influence finds
  bool complete = true;      // all cells are through
  std::vector<std::string> laws = {"power", "power+floor"};  // of the frontier cells
  std::vector<TrialPoint> trials;  // for fine-tuning candidates; those of the study's own seed
  size_t candidates = 3;           // at most
  double candidate_budget = 0;     // compute; 0: the largest
  std::vector<FinetunedPoint> finetuned;
  std::vector<CellRow> targets;  // to be predicted: cell, model, params, epochs and compute
};

// An answer with a name; the first one is the law.
struct Verdict {
  // law, optimum, same-rate, learning-rate, fine-tuning, fine-tuned, families, next, faults
  std::string name;
  std::string sentence;            // plain, with intervals
  std::string state;               // decided, not decided, open, waits
  std::vector<std::string> cells;  // that it rests on
  std::string family = {};         // that it speaks of, where there are several
};

struct LawConclusion {
  std::string method;  // tangent, pareto or none
  std::optional<Tangent> law;
  std::optional<Slices> slices;
  std::optional<Tangent> pareto, hull;  // through cells, as commonly drawn
  // 95 %: the union of the tangent's and the slices' intervals where both are there.
  std::optional<Bounds> exponent, ratio, ratio_macs, curvature;
  double ratio_macs_point = 0;
  int draws = 0, drawn = 0;                      // asked for, and with a law of their own
  std::vector<double> compute, line, low, high;  // the law and its 95 % band
  double measured_low = 0, measured_high = 0;    // compute that the law rests on
};

// A law of the frontier cells, for fits.json.
struct FrontierLaw {
  LawFit fit;
  FitTable table;
  FitOptions options;
};

// What the other cells say of one. In the order of cells.
struct CellInfluence {
  std::string cell;
  double residual = 0, z = 0;  // NaN where it was not judged
  bool flagged = false;
  std::string why;                                 // of the flag: certificate first
  double exponent_without = 0, ratio_without = 0;  // NaN where unknown
};

// The best that the curves of the models say at a budget, never beyond their measured range.
struct OptimumRegion {
  double compute = 0;
  std::string model;  // the best
  double epochs = 0, loss = 0;
  struct Near {  // within the tolerance of the best
    std::string model;
    double epochs = 0, loss = 0;
  };
  std::vector<Near> near;            // by size, the best among them
  bool open_above = false;           // the best is the largest model or its longest budget
  double size = 0, size_epochs = 0;  // continuous optimum, parameters; NaN where there is none
};

// ln lr = i + p ln params + q ln epochs, by cells that have a bracket.
struct RateConclusion {
  double i = 0, p = 0, q = 0;
  std::optional<Bounds> p_interval, q_interval;
  size_t cells = 0;
};

// Fitted below a share of the largest compute, compared with what was measured above.
struct ExtrapolationRecord {
  double cut = 0;  // 10: below a tenth
  size_t fitted = 0, scored = 0;
  std::string method;  // of the law below the cut: tangent or pareto
  double exponent = 0, rms = 0, bias = 0, naive_rms = 0;
  double inside50 = 0, inside95 = 0;  // shares; NaN without draws
  struct Point {
    std::string cell;
    double compute = 0, predicted = 0, low = 0, high = 0, observed = 0;  // 95 %
  };
  std::vector<Point> points;
};

struct Candidate {   // for fine-tuning
  std::string role;  // a, b, c of the rule
  std::string cell, run_id, why;
  double lr = 0, loss = 0, compute = 0;
};

// The loss of one run of a cell that has none yet: the law at its compute, and above it by how far
// its epochs are from the best ones of its size.
struct CellForecast {
  std::string cell;
  std::string law;  // tangent or pareto
  double compute = 0, loss = 0;
  Bounds interval50, interval95;  // noise of a run included
  double naive = 0;  // by the exponent between the two dearest frontier cells; NaN without two
};

// What the cells of one family say.
struct Conclusions {
  std::string family;
  std::vector<CellRow> cells;
  std::string axis;          // "device hours" or "operations"
  std::vector<size_t> used;  // places in the cells
  LawConclusion law;
  std::vector<FrontierLaw> laws;
  std::vector<CellInfluence> influence;
  std::vector<OptimumRegion> optima;
  std::optional<RateConclusion> rate;
  std::vector<ExtrapolationRecord> record;
  std::vector<Candidate> candidates;
  // Of repeating a cell with another seed: by how much the interval of the ratio narrows for each
  // device hour (or 1e15 operations), most first.
  struct Next {
    std::string cell;
    double narrowing = 0, cost = 0;
  };
  std::vector<Next> next;
  std::vector<CellForecast> forecasts;  // of the targets; empty without a law
  std::vector<Verdict> verdicts;
  std::vector<std::string> limits;  // what these runs cannot say
};

// Of a study: families have laws of their own, since a parameter of one is not worth one of
// another.
struct StudyConclusions {
  std::vector<Conclusions> families;
  std::optional<FamilyComparison> comparison;  // where there are two with a law
  std::vector<FinetunedPoint> finetuned;
  std::vector<Verdict> verdicts;
  std::vector<std::string> limits;
};

FrontierPoint frontier_point(const CellRow& cell, bool by_hours);

// Never fails: where there is no law the verdicts say what is missing. Marks the cells: flagged,
// excess, near. All cells are taken for one family.
Conclusions conclude(std::vector<CellRow>& cells, const ConcludeOptions& options);

// By family. The noise is that of the cells, where the options do not give one.
StudyConclusions conclude_families(std::vector<CellRow>& cells, const ConcludeOptions& options);

// Which fine-tuned checkpoint is best, by how much, and whether the held-out loss of pretraining
// told; nothing before the first.
std::optional<Verdict> finetuned_verdict(const std::vector<FinetunedPoint>& points);

// Of all families: [{"run_id", "cell", "role", "why"}], those whose run is known.
Json candidates_json(const StudyConclusions& conclusions);

// The frontier as an object of fits.json, as of `nfscale fit`.
Json frontier_json(const Conclusions& conclusions, uint64_t input_hash);
// The objects of fits.json: of every family the frontier, and the laws asked for on its cells.
Json fits_json(const StudyConclusions& conclusions, uint64_t input_hash);

}  // namespace nfscale
