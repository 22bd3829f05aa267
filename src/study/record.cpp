#include "study/record.h"

#include <algorithm>
#include <cmath>

namespace nfscale {
namespace {

std::optional<ExtrapolationRecord> record_of(const std::vector<FrontierPoint>& points,
                                             const std::vector<std::string>& names, double cut,
                                             const DrawOptions& options) {
  double most = 0;
  for (const FrontierPoint& p : points) most = std::max(most, p.compute);
  std::vector<FrontierPoint> below;
  for (const FrontierPoint& p : points)
    if (p.compute <= most / cut) below.push_back(p);
  std::vector<size_t> above;
  for (const size_t i : pareto_set(points))
    if (points[i].compute > most / cut) above.push_back(i);
  ExtrapolationRecord r;
  r.cut = cut;
  r.fitted = below.size();
  r.scored = above.size();
  if (below.size() < 4 || above.empty()) return std::nullopt;
  auto law = common_tangent(below);
  const LawKind kind = law ? LawKind::tangent : LawKind::pareto;
  if (!law) law = pareto_line(below);
  if (!law) return std::nullopt;
  r.method = kind == LawKind::tangent ? "tangent" : "pareto";
  r.exponent = law->exponent;
  DrawOptions own = options;
  own.at.clear();
  for (const size_t i : above) own.at.push_back(points[i].compute);
  const FrontierDraws draws = draw_frontier(below, kind, own);
  double naive = 0, inside50 = 0, inside95 = 0;
  for (size_t k = 0; k < above.size(); ++k) {
    const FrontierPoint& p = points[above[k]];
    ExtrapolationRecord::Point point = {names[above[k]], p.compute,    law->at(p.compute),
                                        std::nan(""),    std::nan(""), p.loss};
    const double error = std::log(point.predicted) - std::log(p.loss);
    r.rms += error * error;
    r.bias += error;
    naive += std::pow(naive_forecast(below, p.compute) - std::log(p.loss), 2);
    if (draws.line[k].size() >= 20) {
      point.low = std::exp(percentile(draws.line[k], 2.5));
      point.high = std::exp(percentile(draws.line[k], 97.5));
      inside95 += p.loss >= point.low && p.loss <= point.high;
      inside50 += std::log(p.loss) >= percentile(draws.line[k], 25) &&
                  std::log(p.loss) <= percentile(draws.line[k], 75);
    }
    r.points.push_back(point);
  }
  const auto n = static_cast<double>(above.size());
  const bool drawn = !draws.line.empty() && draws.line[0].size() >= 20;
  r.rms = std::sqrt(r.rms / n);
  r.bias /= n;
  r.naive_rms = std::sqrt(naive / n);
  r.inside50 = drawn ? inside50 / n : std::nan("");
  r.inside95 = drawn ? inside95 / n : std::nan("");
  return r;
}

}  // namespace

double naive_forecast(const std::vector<FrontierPoint>& points, double compute) {
  const std::vector<size_t> set = pareto_set(points);
  if (set.size() < 2) return std::nan("");
  const FrontierPoint &a = points[set[set.size() - 2]], &b = points[set.back()];
  const double slope = std::log(b.loss / a.loss) / std::log(b.compute / a.compute);
  return std::log(b.loss) + slope * std::log(compute / b.compute);
}

std::vector<ExtrapolationRecord> extrapolation_record(const std::vector<FrontierPoint>& points,
                                                      const std::vector<std::string>& names,
                                                      const DrawOptions& draws) {
  std::vector<ExtrapolationRecord> records;
  for (const double cut : {10.0, 4.0})
    if (auto r = record_of(points, names, cut, draws)) records.push_back(std::move(*r));
  return records;
}

}  // namespace nfscale
