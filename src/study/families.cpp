#include "study/families.h"

#include <algorithm>
#include <cmath>

namespace nfscale {
namespace {

struct Side {
  std::string family;
  std::vector<FrontierPoint> points;
  LawKind kind = LawKind::tangent;
  Tangent law;
  double low = INFINITY, high = 0;
};

std::optional<Side> side_of(const std::vector<FrontierPoint>& points, const std::string& family) {
  Side side;
  side.family = family;
  for (const FrontierPoint& p : points) {
    if (family_of(p.model) != family) continue;
    side.points.push_back(p);
    side.low = std::min(side.low, p.compute);
    side.high = std::max(side.high, p.compute);
  }
  auto law = common_tangent(side.points);
  if (!law) {
    side.kind = LawKind::pareto;
    law = side.points.empty() ? std::nullopt : pareto_line(side.points);
  }
  if (!law) return std::nullopt;
  side.law = *law;
  return side;
}

}  // namespace

std::string family_of(const std::string& model) {
  return model.starts_with("vit") ? "ViT" : "NFNet";
}

std::optional<FamilyComparison> compare_families(const std::vector<FrontierPoint>& points,
                                                 const DrawOptions& options) {
  const auto a = side_of(points, "NFNet"), b = side_of(points, "ViT");
  if (!a || !b) return std::nullopt;
  FamilyComparison c;
  c.low = std::max(a->low, b->low);
  c.high = std::min(a->high, b->high);
  if (!(c.low < c.high)) return std::nullopt;
  c.compute = std::sqrt(c.low * c.high);
  const double d = std::log(b->law.at(c.compute)) - std::log(a->law.at(c.compute));
  const Side &ahead = d >= 0 ? *a : *b, &behind = d >= 0 ? *b : *a;
  c.ahead = ahead.family;
  c.behind = behind.family;
  c.difference = std::abs(d);
  DrawOptions own = options;
  own.at = {c.compute};
  own.targets.clear();
  const Vector first = draw_frontier(ahead.points, ahead.kind, own).line[0];
  own.seed = options.seed + 1;
  const Vector second = draw_frontier(behind.points, behind.kind, own).line[0];
  Vector difference;
  for (size_t i = 0; i < std::min(first.size(), second.size()); ++i)
    difference.push_back(second[i] - first[i]);
  if (difference.size() >= 20)
    c.interval = Bounds{percentile(difference, 2.5), percentile(difference, 97.5)};
  return c;
}

}  // namespace nfscale
