#include <algorithm>
#include <cmath>

#include "fit/laws.h"

namespace nfscale {
namespace {

Json bounds_json(const Bounds& b) {
  return Json::array({finite_json(b.low), finite_json(b.high)});
}

Json residual_json(const LawFit& fit, const FitTable& table) {
  double square = 0, most = 0;
  size_t worst = 0;
  for (size_t i = 0; i < fit.residual.size(); ++i) {
    square += fit.residual[i] * fit.residual[i];
    if (std::abs(fit.residual[i]) <= most) continue;
    most = std::abs(fit.residual[i]);
    worst = i;
  }
  const bool by_row = fit.residual.size() == table.rows.size();
  return Json::object(
      {{"rms", std::sqrt(square / static_cast<double>(std::max<size_t>(1, fit.residual.size())))},
       {"max", most},
       {"worst", by_row && !table.names.empty() ? Json(table.names[worst]) : Json()}});
}

}  // namespace

Json law_json(const LawFit& fit, const FitTable& table, const FitOptions& options,
              const std::optional<Score>& score, uint64_t input_hash) {
  Json columns = Json::object(), excluded = Json::array(), params = Json::object();
  for (const auto& [law, name] : table.columns) columns.set(law, name);
  for (const auto& [row, why] : table.excluded)
    excluded.push(Json::object({{"row", row}, {"why", why}}));
  for (const auto& [name, value] : fit.params) params.set(name, value);
  Json interval = Json::object({{"method", fit.interval_method}, {"level", options.level}});
  Json open = Json::object();
  for (const auto& [name, b] : fit.interval) {
    interval.set(name, bounds_json(b));
    const bool low = !std::isfinite(b.low), high = !std::isfinite(b.high);
    if (low || high) open.set(name, low && high ? "both" : low ? "below" : "above");
  }
  Json left = Json::array();
  for (const LawFit::Left& l : fit.leave_one_out) {
    Json shift = Json::object();
    for (const auto& [name, d] : l.shift) shift.set(name, d);
    left.push(Json::object({{"row", l.row}, {"z", l.z}, {"shift", shift}}));
  }
  Json out =
      Json::object({{"law", fit.law},
                    {"columns", columns},
                    {"rows", table.total},
                    {"used", table.rows.size()},
                    {"excluded", excluded},
                    {"objective", Json::object({{"name", fit.objective_name},
                                                {"value", fit.objective},
                                                {"delta", finite_json(options.huber)}})},
                    {"params", params},
                    {"interval", interval},
                    {"open", open},
                    {"starts", Json::object({{"tried", fit.starts}, {"reached", fit.reached}})},
                    {"residual", residual_json(fit, table)},
                    {"leave_one_out", left},
                    {"score", score ? Json::object({{"rms_log_error", score->rms},
                                                    {"bias", score->bias},
                                                    {"rows", score->rows}})
                                    : Json()},
                    {"warnings", Json(fit.warnings)},
                    {"input_hash", fmt::format("{:016x}", input_hash)},
                    {"version", NFSCALE_VERSION}});
  if (!options.fix.empty()) {
    Json fixed = Json::object();
    for (const auto& [name, value] : options.fix) fixed.set(name, value);
    out.set("fixed", fixed);
  }
  if (!fit.forecasts.empty()) {
    Json at = Json::array();
    for (const LawFit::Forecast& f : fit.forecasts)
      at.push(Json::object(
          {{"x", f.x}, {"y", f.y}, {"interval", f.interval ? bounds_json(*f.interval) : Json()}}));
    out.set("forecasts", at);
  }
  for (const auto& [key, value] : fit.more.members()) out.set(key, value);
  return out;
}

}  // namespace nfscale
