#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "fit/frontier.h"

namespace nfscale {
namespace {

// What is smooth, and what is left over.
struct Smooth {
  std::vector<FrontierPoint> points;
  Vector fitted, residual;  // of ln loss
  size_t parameters = 0;
};

Smooth around_curves(const std::vector<FrontierPoint>& points) {
  Smooth s;
  const double centre = centre_of(points);
  const std::vector<ModelCurve> curves = model_curves(points, centre);
  for (const FrontierPoint& p : points)
    for (const ModelCurve& q : curves) {
      if (q.model != p.model) continue;
      s.points.push_back(p);
      s.fitted.push_back(q.at(std::log(p.compute) - centre));
      s.residual.push_back(std::log(p.loss) - s.fitted.back());
    }
  s.parameters = 3 * curves.size();
  return s;
}

Smooth around_line(const std::vector<FrontierPoint>& points) {
  Smooth s;
  const auto line = pareto_line(points);
  if (!line) return s;
  for (const size_t i : pareto_set(points)) {
    s.points.push_back(points[i]);
    s.fitted.push_back(std::log(line->at(points[i].compute)));
    s.residual.push_back(std::log(points[i].loss) - s.fitted.back());
  }
  s.parameters = 2;
  return s;
}

// A line through all of the points.
std::optional<Tangent> plain_line(const std::vector<FrontierPoint>& points) {
  Tangent line;
  line.centre = centre_of(points);
  Vector x, z;
  for (const FrontierPoint& p : points) {
    x.push_back(std::log(p.compute) - line.centre);
    z.push_back(std::log(p.loss));
  }
  const auto [offset, slope] = line_fit(x, z);
  line.offset = offset;
  line.exponent = -slope;
  return line;
}

// What is added to the points in draw d: residuals with repetition, scaled by `factor`; normal
// numbers of that deviation where there is nothing to draw from.
Vector additions(const Smooth& smooth, double factor, double deviation, uint64_t seed, int d) {
  const auto n = static_cast<uint32_t>(smooth.points.size());
  Vector added;
  Words w{};
  for (uint32_t i = 0; i < n; ++i) {
    if (i % 2 == 0) w = words(seed, Op::study, static_cast<uint64_t>(d), 0, 1, i / 2);
    const uint32_t a = w[2 * (i % 2)], b = w[2 * (i % 2) + 1];
    added.push_back(factor > 0 ? factor * smooth.residual[below(a, n)]
                               : deviation * normal_pair(a, b).first);
  }
  return added;
}

void keep(const Tangent& law, LawKind by, const DrawOptions& options, uint64_t d,
          FrontierDraws& draws) {
  for (size_t k = 0; k < options.at.size(); ++k)
    draws.line[k].push_back(std::log(law.at(options.at[k])));
  for (size_t k = 0; k < options.targets.size(); ++k) {
    const FrontierPoint& t = options.targets[k];
    const Words w = words(options.seed, Op::study, d, static_cast<uint32_t>(k), 3);
    const double run = draws.noise * normal_pair(w[0], w[1]).first;
    const double loss = by == LawKind::tangent ? law.cell_at(t.size, t.compute) : law.at(t.compute);
    draws.target[k].push_back(std::log(loss) + run);
  }
}

}  // namespace

FrontierDraws draw_frontier(const std::vector<FrontierPoint>& points, LawKind by,
                            const DrawOptions& options) {
  FrontierDraws draws;
  draws.line.resize(options.at.size());
  draws.slices_line.resize(options.at.size());
  draws.target.resize(options.targets.size());
  Smooth smooth = by == LawKind::tangent ? around_curves(points) : around_line(points);
  const size_t n = smooth.points.size();
  if (n == 0) return draws;
  const double mean = mean_of(smooth.residual);
  double square = 0;
  for (double& r : smooth.residual) {
    r -= mean;
    square += r * r;
  }
  const double rms = std::sqrt(square / static_cast<double>(n));
  const double rest = static_cast<double>(std::max<size_t>(1, n - smooth.parameters));
  draws.noise = std::max(rms * std::sqrt(static_cast<double>(n) / rest), options.sigma);
  const double factor = rms < 1e-12 ? 0 : draws.noise / rms;
  for (int d = 0; d < options.draws; ++d) {
    std::vector<FrontierPoint> drawn = smooth.points;
    Vector added = additions(smooth, factor, draws.noise, options.seed, d);
    for (size_t i = 0; i < n; ++i) drawn[i].loss = std::exp(smooth.fitted[i] + added[i]);
    const auto law = by == LawKind::tangent ? common_tangent(drawn) : plain_line(drawn);
    draws.residual.push_back(std::move(added));
    draws.ratio_of_draw.push_back(
        law && by == LawKind::tangent && law->rates.size > 0 ? law->rates.ratio() : std::nan(""));
    if (law) {
      draws.tangent_exponent.push_back(law->exponent);
      keep(*law, by, options, static_cast<uint64_t>(d), draws);
      if (!std::isnan(draws.ratio_of_draw.back())) {
        draws.tangent_ratio.push_back(law->rates.ratio());
        if (law->rates.macs > 0) draws.tangent_ratio_macs.push_back(law->rates.ratio_macs());
      }
    }
    if (by == LawKind::pareto) continue;
    if (const auto slices = budget_slices(drawn)) {
      draws.slices_exponent.push_back(slices->exponent);
      for (size_t k = 0; k < options.at.size(); ++k)
        draws.slices_line[k].push_back(std::log(slices->at(options.at[k])));
      if (slices->rates.size > 0) draws.slices_ratio.push_back(slices->rates.ratio());
      if (!std::isnan(slices->curvature)) draws.curvature.push_back(slices->curvature);
      if (slices->rates.macs > 0) draws.slices_ratio_macs.push_back(slices->rates.ratio_macs());
    }
  }
  return draws;
}

}  // namespace nfscale
