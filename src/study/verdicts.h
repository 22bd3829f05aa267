// The sentences of a study.
#pragma once

#include "study/conclude.h"

namespace nfscale {

// Fills verdicts and limits from what is concluded already. `missing` is why there is no law, empty
// where there is one.
void add_verdicts(const std::vector<CellRow>& cells, const ConcludeOptions& options,
                  const std::string& missing, Conclusions& conclusions);

}  // namespace nfscale
