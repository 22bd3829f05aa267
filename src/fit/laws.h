// Laws of one formula, fitted to tables (the frontier of a study is in frontier.h):
//
// power        ln y = ln at_1e4 - exponent ln(x / 1e4)
// power+floor  y = floor + excess_at_1e4 (x / 1e4)^-exponent
// joint        L = E + A N^-alpha + B D^-beta; Hoffmann et al., arXiv 2203.15556, approach 3
// repeat       joint with effective parameters and data, where data is seen more than once:
//              D' = U + U R_D (1 - exp(-(D/U - 1)/R_D)), N' likewise; Muennighoff et al.,
//              arXiv 2305.16264, equations 5 and 6, with alpha = beta from the runs without
//              repetition
// isoflop      per budget the vertex of a parabola of ln L over ln size; ln size on ln budget
// curve3       y = beta (1/x + gamma)^c; M3 of Alabdulmohsin et al., arXiv 2209.06640
// curve4       (y - floor) / (top - y)^alpha = beta x^c; M4 there
// lr           ln lr = i + p ln params + q ln tokens
#pragma once

#include <string>
#include <vector>

#include "fit/law.h"

namespace nfscale {

std::vector<std::string> law_names();
// Columns that a law needs; the last is the one that it predicts.
std::vector<std::string> law_columns(const std::string& law);

// Exit::usage where the table has too few rows, or a fixed parameter is none of the law's.
LawFit fit_law(const std::string& law, const FitTable& table, const FitOptions& options);

// Of the rows of a table with the same columns. Exit::usage for isoflop, which predicts no row.
Score score_law(const LawFit& fit, const FitTable& table);

// Percentile interval of draws; `at_bound` tells which end a draw has run into: -1, 0, 1. An end is
// open (infinite) where more than half of the share outside the level lies there.
Bounds percentile_interval(const Vector& draws, const std::vector<int>& at_bound, double level);

// The isoflop law, in its own file.
LawFit fit_isoflop(const FitTable& table, const FitOptions& options);

// The document of `nfscale fit`. `score` may be missing.
Json law_json(const LawFit& fit, const FitTable& table, const FitOptions& options,
              const std::optional<Score>& score, uint64_t input_hash);

}  // namespace nfscale
