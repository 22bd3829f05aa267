// Two families of models at equal compute: the claim of Smith et al. (arXiv 2310.16764) is one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fit/frontier.h"
#include "fit/law.h"

namespace nfscale {

// "ViT" for models whose name begins with vit, else "NFNet".
std::string family_of(const std::string& model);

struct FamilyComparison {
  std::string ahead, behind;
  double compute = 0;              // the middle, in logarithms, of what both have measured
  double low = 0, high = 0;        // that range
  double difference = 0;           // ln loss of the one behind - that of the one ahead
  std::optional<Bounds> interval;  // 95 %, of the difference
};

// By each family's own law. Nothing where fewer than two families have one, or nothing overlaps.
std::optional<FamilyComparison> compare_families(const std::vector<FrontierPoint>& points,
                                                 const DrawOptions& options);

}  // namespace nfscale
