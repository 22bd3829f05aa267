// Two families of models at equal compute: the claim of Smith et al. (arXiv 2310.16764) is one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fit/frontier.h"
#include "fit/law.h"

namespace nfscale {

// "NFNet", "ViT": as sentences name a family.
std::string family_title(const std::string& family);

// Of two laws of ln loss over compute, and what separates them there.
struct FamilyGap {
  double compute = 0;
  double first_loss = 0, second_loss = 0;  // nats
  double difference = 0;                   // ln loss of the second family - that of the first
  std::optional<Bounds> interval;          // 95 %
};

struct FamilyComparison {
  std::string first, second;  // families
  // At the middle, in logarithms, of the compute that both have measured, and at its ends.
  FamilyGap middle, low, high;
};

struct FamilyPoints {
  std::string family;
  std::vector<FrontierPoint> points;
  double sigma = 0;  // of ln loss, of one run
};

// By each family's own law: the common tangent, else the line through its pareto set. Nothing where
// one has no law, or no compute is measured by both.
std::optional<FamilyComparison> compare_families(const FamilyPoints& first,
                                                 const FamilyPoints& second,
                                                 const DrawOptions& options);

}  // namespace nfscale
