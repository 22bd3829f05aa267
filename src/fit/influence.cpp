#include "fit/influence.h"

#include <algorithm>
#include <cmath>

namespace nfscale {
namespace {

Influence influence_of(const std::vector<FrontierPoint>& points, size_t k) {
  Influence out{k, 0, std::nan("")};
  const double u = std::log(points[k].size), v = std::log(points[k].epochs);
  std::vector<Vector> columns(6);
  Vector z;
  for (size_t i = 0; i < points.size(); ++i) {
    if (i == k) continue;
    const double a = std::log(points[i].size) - u, b = std::log(points[i].epochs) - v;
    const double terms[] = {1, a, b, a * a, a * b, b * b};
    for (size_t c = 0; c < 6; ++c) columns[c].push_back(terms[c]);
    z.push_back(std::log(points[i].loss));
  }
  constexpr size_t kSpare = 3;  // degrees of freedom, at least
  if (z.size() < 6 + kSpare) return out;
  const auto fit = least_squares(columns, z);
  if (!fit) return out;
  const double middle = median_of(fit->residual);
  Vector away;
  for (const double r : fit->residual) away.push_back(std::abs(r - middle));
  const double deviation = 1.4826 * median_of(away);
  out.residual = std::log(points[k].loss) - fit->at[0];
  const double h = fit->leverage({1, 0, 0, 0, 0, 0});
  out.z = out.residual / std::max(deviation * std::sqrt(1 + h), 1e-12);
  return out;
}

}  // namespace

std::vector<Influence> influences(const std::vector<FrontierPoint>& points) {
  std::vector<Influence> all;
  for (size_t k = 0; k < points.size(); ++k) all.push_back(influence_of(points, k));
  return all;
}

std::vector<Influence> suspects(const std::vector<FrontierPoint>& points, double threshold) {
  std::vector<Influence> found;
  std::vector<FrontierPoint> rest = points;
  std::vector<size_t> place(points.size());
  for (size_t i = 0; i < place.size(); ++i) place[i] = i;
  while (found.size() < points.size() / 10) {
    Influence worst{0, 0, -INFINITY};
    for (const Influence& one : influences(rest))
      if (one.z > worst.z) worst = one;
    if (!(worst.z > threshold)) break;
    const auto at = static_cast<ptrdiff_t>(worst.point);
    worst.point = place[worst.point];
    found.push_back(worst);
    rest.erase(rest.begin() + at);
    place.erase(place.begin() + at);
  }
  return found;
}

}  // namespace nfscale
