// What a study has still to do, and how long that takes.
#pragma once

#include <optional>

#include "study/trials.h"

namespace nfscale {

// Trials that run, are asked for or are to be expected.
double remaining_trials(const Study& study, const Grid& grid, const StudyView& view);

// Seconds until the study is through with `slots` trials at once; nothing before the first result.
// A trial takes as long as those of its model; of a model without any, as the line through its
// family's models says (seconds of an operation against multiply-adds, both in logarithms: larger
// products run faster).
std::optional<double> remaining_seconds(const Study& study, const Grid& grid,
                                        const StudyView& view);

}  // namespace nfscale
