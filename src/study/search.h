// The learning-rate search: from the losses that are known to the trials that are to be run next.
// A pure function: the same losses give the same answer, in whatever order they came, so a study
// that was killed goes on as if nothing had happened.
//
// The rates of a study lie on a grid start * factor^k; everything here is in steps k. About two
// trials a cell suffice because cells that are smaller or shorter predict the optimum, and because
// the width of the curve (its curvature a, nats per step^2) hardly changes from cell to cell:
//   k1 = round(p), p = v_up + v_left - v_diag; the second trial lies on the side of p;
//   vertex of a pair (l, l+1): l + 1/2 - (L_{l+1} - L_l) / (2a); outside the surroundings of the
//   pair another trial follows; a = (4 a0 + sum of c) / (4 + n) over cells with both neighbours,
//   c = (L_{b-1} + L_{b+1})/2 - L_b.
// The observation that two trials a cell suffice is that of Smith et al., arXiv 2310.16764.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace nfscale {

inline constexpr double kDiverged = std::numeric_limits<double>::infinity();

struct SearchSettings {
  enum class Prior { soft, down, none } prior = Prior::soft;
  enum class Certify { frontier, all, none } certify = Certify::frontier;
  double tolerance = 0.005;  // relative; of the frontier
  double curvature = 0.012;  // a0, nats per step^2
  double margin = 0.15;      // steps by which a vertex may leave the surroundings of its pair
  int max_trials = 6;        // of a cell, those that failed among them, repeats not counted
  int repeats = 0;           // of the noise cells, with other seeds
};

struct SearchCell {
  int i = 0, j = 0;  // size and epoch rank in its family
  double cost = 0;   // orders the frontier
  // Families know nothing of each other: each has its own neighbours, curvature, noise, frontier.
  size_t family = 0;
  std::optional<int> low = {}, high = {};  // limits of k
  bool noise = false;                      // the cell of its family that is repeated
  std::map<int, double> losses = {};  // by k, held-out loss in nats; kDiverged where it diverged
  std::set<int> missing = {};         // cannot be had
  int failed = 0;                     // of these, trials that were made
  // By (k, 1..N): loss with another seed; NaN where it cannot be had.
  std::map<std::pair<int, int>, double> repeats = {};
};

struct Wanted {
  size_t cell = 0;
  int k = 0;
  int repeat = 0;  // 1..N for the noise, else 0
  std::string why;
};

struct CellSearch {
  bool searched = false;    // the search of this cell is through (certification is not counted)
  std::set<int> tried;      // the k that the search asked for and knows
  std::optional<int> best;  // nothing where no trial is finite
  double loss = 0, vertex = 0, loss_vertex = 0;  // of the best; valid where best is set
  double curvature = 0;  // own where both neighbours are finite, else pooled
  bool own_curvature = false;
  bool low = false, high = false;  // the neighbour below, above was tried and is not better
  bool certified = false;          // both neighbours were tried and are not better
  bool edge = false;               // a limit of the search was met
  bool frontier = false;
  std::optional<int> tie;       // another k that the noise does not tell from the best
  std::optional<double> sigma;  // of its family
};

struct FamilySearch {
  double curvature = 0;  // pooled
  std::optional<double> sigma;
  std::optional<int> noise_k;
  int rose = 0, fell = 0;  // pairs of neighbours whose optimum rose or fell with size or epochs
};

struct SearchResult {
  std::vector<Wanted> next;  // the ones that depend on each other least come first
  bool finished = false;     // nothing is wanted any more
  std::vector<CellSearch> cells;
  std::vector<FamilySearch> families;  // by number
};

// `cells` in the order of their anti-diagonals i + j; families are numbered from 0.
SearchResult search(const SearchSettings& settings, const std::vector<SearchCell>& cells);

// The same, where losses are looked up when they are asked for: `learn` enters what is known of a
// trial into the cells (a loss, a repeat, or that it is missing) and says whether it was known.
// One pass then goes as far as many rounds of the other would.
using Learn = std::function<bool(const Wanted&)>;
SearchResult search(const SearchSettings& settings, const std::vector<SearchCell>& cells,
                    const Learn& learn);

}  // namespace nfscale
