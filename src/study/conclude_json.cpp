#include <algorithm>
#include <cmath>

#include "fit/laws.h"
#include "study/conclude.h"

namespace nfscale {
namespace {

Json touches_json(const std::vector<TouchPoint>& touches) {
  Json list = Json::array();
  for (const TouchPoint& t : touches)
    list.push(Json::object({{"model", t.model},
                            {"compute", t.compute},
                            {"loss", t.loss},
                            {"params", t.size},
                            {"epochs", t.epochs}}));
  return list;
}

Json line_json(const std::optional<Tangent>& line) {
  if (!line) return {};
  return Json::object(
      {{"exponent", line->exponent}, {"at_1e4", line->at(1e4)}, {"cells", line->touches.size()}});
}

Json params_json(const LawConclusion& law) {
  Json params = Json::object();
  if (!law.law) return params;
  params.set("exponent", law.law->exponent);
  params.set("at_1e4", law.law->at(1e4));
  if (law.method != "tangent") return params;
  params.set("touching_models", law.law->touches.size());
  params.set("sd_offset", law.law->sd_offset);
  params.set("rate_params", law.law->rates.size);
  params.set("rate_macs", finite_json(law.law->rates.macs));
  params.set("rate_epochs", law.law->rates.epochs);
  params.set("ratio", law.law->rates.ratio());
  params.set("ratio_macs", finite_json(law.law->rates.ratio_macs()));
  return params;
}

Json slices_json(const LawConclusion& law) {
  if (!law.slices) return {};
  const Slices& s = *law.slices;
  return Json::object({{"exponent", s.exponent},
                       {"curvature", finite_json(s.curvature)},
                       {"rate_params", s.rates.size},
                       {"rate_epochs", s.rates.epochs},
                       {"ratio", s.rates.ratio()},
                       {"budgets", s.optima.size()},
                       {"optima", touches_json(s.optima)}});
}

Json interval_json(const LawConclusion& law, Json& open) {
  Json out = Json::object(
      {{"method", law.method == "tangent"
                      ? "residuals drawn again around the models' parabolas; the union of what the "
                        "common tangent and the slices hold possible"
                      : "residuals drawn again around the line"},
       {"level", 0.95}});
  const auto add = [&](const char* name, const std::optional<Bounds>& b) {
    if (b) out.set(name, Json::array({finite_json(b->low), finite_json(b->high)}));
  };
  add("exponent", law.exponent);
  add("ratio", law.ratio);
  add("ratio_macs", law.ratio_macs);
  add("curvature", law.curvature);
  out.set("draws", law.drawn);
  if (law.law && !law.exponent) open.set("exponent", "both");
  return out;
}

Json excluded_json(const Conclusions& c) {
  const std::vector<CellRow>& cells = c.cells;
  Json excluded = Json::array();
  for (size_t i = 0; i < cells.size(); ++i) {
    if (std::find(c.used.begin(), c.used.end(), i) != c.used.end()) continue;
    excluded.push(
        Json::object({{"row", cells[i].cell},
                      {"why", cells[i].flagged            ? cells[i].reason
                              : std::isnan(cells[i].loss) ? "no result"
                                                          : "at chance, or no compute"}}));
  }
  return excluded;
}

Json influence_json(const Conclusions& c) {
  std::vector<const CellInfluence*> order;
  for (const CellInfluence& one : c.influence)
    if (!std::isnan(one.z)) order.push_back(&one);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return std::abs(a->z) > std::abs(b->z); });
  Json list = Json::array();
  for (const CellInfluence* one : order) {
    Json shift = Json::object();
    if (c.law.law && !std::isnan(one->exponent_without)) {
      shift.set("exponent", one->exponent_without - c.law.law->exponent);
      shift.set("ratio", one->ratio_without - c.law.law->rates.ratio());
    }
    list.push(Json::object({{"row", one->cell},
                            {"z", one->z},
                            {"residual", one->residual},
                            {"flagged", one->flagged},
                            {"why", one->why},
                            {"shift", shift}}));
  }
  return list;
}

Json record_json(const Conclusions& c) {
  Json list = Json::array();
  for (const ExtrapolationRecord& r : c.record)
    list.push(Json::object({{"below", r.cut},
                            {"method", r.method},
                            {"cells_fit", r.fitted},
                            {"cells_scored", r.scored},
                            {"exponent", r.exponent},
                            {"rms_log_error", r.rms},
                            {"bias", r.bias},
                            {"inside50", finite_json(r.inside50)},
                            {"inside95", finite_json(r.inside95)},
                            {"naive_rms_log_error", finite_json(r.naive_rms)}}));
  return list;
}

}  // namespace

Json frontier_json(const Conclusions& c, uint64_t input_hash) {
  const LawConclusion& law = c.law;
  double square = 0, largest = 0;
  std::string worst;
  if (law.law)
    for (const TouchPoint& t : law.law->touches) {
      const double r = std::log(t.loss) - std::log(law.law->at(t.compute));
      square += r * r / static_cast<double>(law.law->touches.size());
      if (std::abs(r) <= largest) continue;
      largest = std::abs(r);
      worst = t.model;
    }
  Json open = Json::object(), verdicts = Json::array(), warnings = Json::array();
  const Json interval = interval_json(law, open);
  for (const Verdict& v : c.verdicts) {
    verdicts.push(Json::object({{"name", v.name}, {"state", v.state}, {"sentence", v.sentence}}));
    if (v.name == "faults" || (v.name == "law" && v.state != "decided")) warnings.push(v.sentence);
  }
  const bool tangent = law.method == "tangent";
  const double value = tangent ? law.law->sd_offset * law.law->sd_offset : square;
  return Json::object(
      {{"law", "frontier"},
       {"method", law.method},
       {"columns", Json::object({{"x", c.axis == "device hours" ? "device_hours" : "flops"},
                                 {"y", "loss_vertex"}})},
       {"rows", c.cells.size()},
       {"used", c.used.size()},
       {"excluded", excluded_json(c)},
       {"objective",
        Json::object({{"name", tangent ? "variance of the offsets of the touched models"
                                       : "mean square of ln loss around the line"},
                      {"value", law.law ? Json(value) : Json()},
                      {"delta", nullptr}})},
       {"params", params_json(law)},
       {"interval", interval},
       {"open", open},
       {"starts", Json::object({{"tried", 1}, {"reached", law.law ? 1 : 0}})},
       {"touches", law.law ? touches_json(law.law->touches) : Json()},
       {"slices", slices_json(law)},
       {"pareto", line_json(law.pareto)},
       {"hull", line_json(law.hull)},
       {"residual", Json::object({{"rms", std::sqrt(square)}, {"max", largest}, {"worst", worst}})},
       {"leave_one_out", influence_json(c)},
       {"score", record_json(c)},
       {"verdicts", verdicts},
       {"warnings", warnings},
       {"input_hash", fmt::format("{:016x}", input_hash)},
       {"version", NFSCALE_VERSION}});
}

Json fits_json(const StudyConclusions& s, uint64_t input_hash) {
  Json all = Json::array();
  const auto add = [&](const Conclusions& c, Json fit) {
    if (s.families.size() > 1) fit.set("family", c.family);
    all.push(std::move(fit));
  };
  for (const Conclusions& c : s.families) {
    add(c, frontier_json(c, input_hash));
    for (const FrontierLaw& law : c.laws)
      add(c, law_json(law.fit, law.table, law.options, std::nullopt, input_hash));
  }
  return all;
}

}  // namespace nfscale
