// How well this method would have predicted these runs: laws of the cheap cells against the dear
// ones.
#pragma once

#include <vector>

#include "study/conclude.h"

namespace nfscale {

// Below a tenth and a quarter of the largest compute, where a law can be fitted there.
std::vector<ExtrapolationRecord> extrapolation_record(const std::vector<FrontierPoint>& points,
                                                      const std::vector<std::string>& names,
                                                      const DrawOptions& draws);

// ln loss by the exponent between the two dearest points of the frontier; NaN without two.
double naive_forecast(const std::vector<FrontierPoint>& points, double compute);

}  // namespace nfscale
