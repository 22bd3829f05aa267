// Which model at which budget: read from the curves of the models, never beyond what was measured.
#pragma once

#include <vector>

#include "study/conclude.h"

namespace nfscale {

// On a grid of 20 budgets a decade, where at least two models are measured.
std::vector<OptimumRegion> optimum_regions(const std::vector<FrontierPoint>& points,
                                           const std::optional<Tangent>& law, double tolerance);

// Checkpoints that are worth fine-tuning at a budget (Smith et al., section 4: the best one after
// fine-tuning is somewhat larger, trained somewhat shorter, at times at a somewhat higher rate):
// (a) the best of the budget; (b) the next larger model at the same compute, if its loss is within
// 1 %; (c) the better of the two one step higher in rate, if within 0.5 %.
std::vector<Candidate> candidates_of(const std::vector<CellRow>& cells,
                                     const std::vector<size_t>& used, bool by_hours,
                                     const ConcludeOptions& options);

}  // namespace nfscale
