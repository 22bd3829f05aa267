#include "study/families.h"

#include <algorithm>
#include <cmath>

namespace nfscale {
namespace {

struct Side {
  LawKind kind = LawKind::tangent;
  Tangent law;
  double low = INFINITY, high = 0;
};

std::optional<Side> side_of(const std::vector<FrontierPoint>& points) {
  if (points.empty()) return std::nullopt;
  Side side;
  for (const FrontierPoint& p : points) {
    side.low = std::min(side.low, p.compute);
    side.high = std::max(side.high, p.compute);
  }
  auto law = common_tangent(points);
  if (!law) {
    side.kind = LawKind::pareto;
    law = pareto_line(points);
  }
  if (!law) return std::nullopt;
  side.law = *law;
  return side;
}

}  // namespace

std::string family_title(const std::string& family) {
  return family == "vit" ? "ViT" : "NFNet";
}

std::optional<FamilyComparison> compare_families(const FamilyPoints& first,
                                                 const FamilyPoints& second,
                                                 const DrawOptions& options) {
  const auto a = side_of(first.points), b = side_of(second.points);
  if (!a || !b) return std::nullopt;
  const double low = std::max(a->low, b->low), high = std::min(a->high, b->high);
  if (!(low < high)) return std::nullopt;
  DrawOptions own = options;
  own.at = {std::sqrt(low * high), low, high};
  own.targets.clear();
  own.sigma = first.sigma;
  const std::vector<Vector> of_first = draw_frontier(first.points, a->kind, own).line;
  own.sigma = second.sigma;
  own.seed = options.seed + 1;
  const std::vector<Vector> of_second = draw_frontier(second.points, b->kind, own).line;
  FamilyComparison c = {first.family, second.family, {}, {}, {}};
  FamilyGap* gaps[] = {&c.middle, &c.low, &c.high};
  for (size_t k = 0; k < own.at.size(); ++k) {
    gaps[k]->compute = own.at[k];
    gaps[k]->first_loss = a->law.at(own.at[k]);
    gaps[k]->second_loss = b->law.at(own.at[k]);
    gaps[k]->difference = std::log(gaps[k]->second_loss / gaps[k]->first_loss);
    Vector differences;
    for (size_t d = 0; d < std::min(of_first[k].size(), of_second[k].size()); ++d)
      differences.push_back(of_second[k][d] - of_first[k][d]);
    if (differences.size() >= 20)
      gaps[k]->interval = Bounds{percentile(differences, 2.5), percentile(differences, 97.5)};
  }
  return c;
}

}  // namespace nfscale
