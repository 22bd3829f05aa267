// Cells that do not fit the others: each is predicted from the rest by a quadratic surface of
// (ln size, ln epochs). A flag is a question, the certificate of the data is the answer.
#pragma once

#include <string>
#include <vector>

#include "fit/frontier.h"

namespace nfscale {

struct Influence {
  size_t point = 0;
  double residual = 0;  // ln observed - ln predicted by the others
  double z = 0;         // residual / (1.4826 MAD of the others sqrt(1 + leverage)); NaN: too few
};

// Of every point, in the order of the points.
std::vector<Influence> influences(const std::vector<FrontierPoint>& points);

// Points to be asked about, worst first: the largest z while it is above `threshold`, then again
// without that point, at most a tenth of the points.
std::vector<Influence> suspects(const std::vector<FrontierPoint>& points, double threshold = 4);

}  // namespace nfscale
