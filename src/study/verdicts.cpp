#include "study/verdicts.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "study/plan.h"

namespace nfscale {
namespace {

std::string number(double v) {
  return fmt::format("{:.4g}", v);
}

std::string interval(const std::optional<Bounds>& b) {
  if (!b) return "";
  const auto end = [](double v) { return std::isfinite(v) ? number(v) : std::string("open"); };
  return fmt::format(" [{}, {}]", end(b->low), end(b->high));
}

std::vector<std::string> names_of(const std::vector<CellRow>& cells,
                                  const std::vector<size_t>& places) {
  std::vector<std::string> names;
  for (const size_t i : places) names.push_back(cells[i].cell);
  return names;
}

std::vector<std::string> waiting_cells(const std::vector<CellRow>& cells) {
  std::vector<std::string> names;
  for (const CellRow& c : cells)
    if (std::isnan(c.loss)) names.push_back(c.cell);
  return names;
}

// The cells of a model around an epoch budget.
std::vector<std::string> cells_around(const std::vector<CellRow>& cells, const std::string& model,
                                      double epochs) {
  std::vector<std::string> names;
  const CellRow *below = nullptr, *above = nullptr;
  for (const CellRow& c : cells) {
    if (c.model != model || std::isnan(c.loss)) continue;
    if (c.epochs <= epochs * 1.0001 && (!below || c.epochs > below->epochs)) below = &c;
    if (c.epochs >= epochs * 0.9999 && (!above || c.epochs < above->epochs)) above = &c;
  }
  if (below) names.push_back(below->cell);
  if (above && above != below) names.push_back(above->cell);
  return names;
}

std::string law_formula(const Conclusions& c) {
  const LawConclusion& law = c.law;
  const double reference =
      std::pow(10, std::round(std::log10(std::sqrt(law.measured_low * law.measured_high))));
  return fmt::format("loss = {:.3f} ({} / {:g})^-{}{}", law.law->at(reference), c.axis, reference,
                     number(law.law->exponent), interval(law.exponent));
}

std::string floor_clause(const Conclusions& c) {
  for (const FrontierLaw& law : c.laws) {
    if (law.fit.law != "power+floor") continue;
    const auto b = law.fit.interval.find("floor");
    if (b == law.fit.interval.end()) return "";
    const Json* identified = law.fit.more.find("floor_identified");
    if (identified && identified->as_bool())
      return fmt::format("; a floor of {}{} predicts the dearest cells better than none",
                         number(law.fit.param("floor")), interval(b->second));
    return std::isfinite(b->second.high)
               ? fmt::format("; no floor can be told from zero (at most {})",
                             number(b->second.high))
               : "; whether there is a floor is open";
  }
  return "";
}

std::string straight_clause(const Conclusions& c) {
  const LawConclusion& law = c.law;
  double most = 0;
  for (const TouchPoint& t : law.law->touches)
    most = std::max(most, std::abs(std::log(t.loss) - std::log(law.law->at(t.compute))));
  std::string text = fmt::format("; straight within {:.2g} %", 100 * std::expm1(most));
  if (law.curvature)
    text += law.curvature->low > 0    ? ", bending upwards"
            : law.curvature->high < 0 ? ", bending downwards"
                                      : ", no bend can be told from none";
  return text;
}

Verdict law_verdict(const std::vector<CellRow>& cells, const ConcludeOptions& options,
                    const std::string& missing, const Conclusions& c) {
  Verdict v;
  v.name = "law";
  v.cells = names_of(cells, c.used);
  if (!missing.empty()) {
    v.sentence = missing;
    v.state = options.complete ? "not decided" : "waits";
    if (!options.complete) v.cells = waiting_cells(cells);
    return v;
  }
  const LawConclusion& law = c.law;
  if (law.method == "tangent") {
    v.state = law.exponent ? "decided" : "not decided";
    v.sentence = fmt::format(
        "The best held-out loss falls as a power of compute: {}, touched by {} models between {} "
        "and {} {}{}{}.",
        law_formula(c), law.law->touches.size(), plain_number(law.measured_low),
        plain_number(law.measured_high), c.axis, straight_clause(c), floor_clause(c));
    if (law.drawn < law.draws * 9 / 10)
      v.sentence +=
          fmt::format(" Only {} of {} draws have a common tangent: the interval is of those.",
                      law.drawn, law.draws);
  } else {
    v.state = "open";
    v.sentence = fmt::format(
        "No common tangent yet: the curves of the models do not bend enough inside the measured "
        "range, so the best epoch budgets are open above. A line through the {} cells that no "
        "cheaper cell beats, as commonly drawn, is {}; such a line lies above the true law.",
        law.law->touches.size(), law_formula(c));
  }
  if (!options.complete) v.sentence += " The study is not complete: this may change.";
  return v;
}

// ---- which model at which budget

std::string near_text(const OptimumRegion& r) {
  if (r.near.size() < 2) return fmt::format("{} at {:.2g} epochs", r.model, r.epochs);
  return fmt::format("{} to {}, at {:.2g} to {:.2g} epochs", r.near.front().model,
                     r.near.back().model, r.near.front().epochs, r.near.back().epochs);
}

Verdict optimum_verdict(const std::vector<CellRow>& cells, const ConcludeOptions& options,
                        const Conclusions& c) {
  Verdict v;
  v.name = "optimum";
  if (c.optima.empty()) {
    v.sentence =
        "Which model is best at which budget needs two models with four epoch budgets each.";
    v.state = options.complete ? "not decided" : "waits";
    if (!options.complete) v.cells = waiting_cells(cells);
    return v;
  }
  std::vector<std::string> parts;
  size_t open = 0;
  constexpr size_t kShown = 4;
  for (size_t k = 0; k < kShown; ++k) {
    const OptimumRegion& r =
        c.optima[std::min(c.optima.size() - 1, (2 * k + 1) * c.optima.size() / (2 * kShown))];
    std::string text = fmt::format("at {} {}: {}", plain_number(r.compute), c.axis, near_text(r));
    if (!std::isnan(r.size))
      text += fmt::format(" (continuous optimum {} parameters, {:.2g} epochs)", count_text(r.size),
                          r.size_epochs);
    if (r.open_above) text += " (open above)";
    for (const std::string& cell : cells_around(cells, r.model, r.epochs))
      if (std::find(v.cells.begin(), v.cells.end(), cell) == v.cells.end()) v.cells.push_back(cell);
    if (parts.empty() || parts.back() != text) parts.push_back(text);
  }
  for (const OptimumRegion& r : c.optima) open += r.open_above;
  v.sentence =
      fmt::format("Within {:g} % of the best: {}.", 100 * options.tolerance, join(parts, "; "));
  v.state = open == c.optima.size() ? "open" : "decided";
  const OptimumRegion& last = c.optima.back();
  if (last.open_above)
    v.sentence += fmt::format(
        " At the largest budgets the best is {}, which is as large or as long as these runs go: a "
        "larger model or a longer budget may be better.",
        last.model);
  return v;
}

Verdict touch_verdict(const std::vector<CellRow>& cells, const Conclusions& c) {
  Verdict v{"budgets", "", "decided", {}};
  std::vector<std::string> best;
  for (const TouchPoint& t : c.law.law->touches) {
    best.push_back(fmt::format("{} at {} epochs ({} {})", t.model, plain_number(t.epochs),
                               plain_number(t.compute), c.axis));
    for (const std::string& cell : cells_around(cells, t.model, t.epochs)) v.cells.push_back(cell);
  }
  v.sentence = "Best epoch budget of each model: " + join(best, ", ") + ".";
  return v;
}

// ---- do size and epochs grow alike?

std::string deciding_cells(const Conclusions& c) {
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min<size_t>(3, c.next.size()); ++i) names.push_back(c.next[i].cell);
  return names.empty()
             ? ""
             : "; another seed of " + join(names, ", ") + " would narrow it most for its cost";
}

Verdict same_rate_verdict(const std::vector<CellRow>& cells, const Conclusions& c) {
  Verdict v{"same-rate", "", "not decided", names_of(cells, c.used)};
  const LawConclusion& law = c.law;
  constexpr double kNarrow = 0.3;
  std::string answer = "not decided by these runs";
  if (law.ratio) {
    const Bounds& r = *law.ratio;
    if (r.low > 1)
      answer = "epochs grow faster than size";
    else if (r.high < 1)
      answer = "epochs grow more slowly than size";
    else if (r.high - r.low < kNarrow)
      answer = "consistent with the same rate";
    if (answer[0] != 'n') v.state = "decided";
  }
  v.sentence = fmt::format(
      "Optimal epochs against optimal size: ratio of their growth rates {}{} in parameters",
      number(law.law->rates.ratio()), interval(law.ratio));
  if (law.ratio_macs)
    v.sentence += fmt::format(", {}{} in multiply-adds", number(law.ratio_macs_point),
                              interval(law.ratio_macs));
  v.sentence += ": " + answer + (v.state == "decided" ? "" : deciding_cells(c)) + ".";
  return v;
}

// ---- learning rates, faults, candidates

constexpr double kFlat = 0.2;  // width of an interval around 0 that says "flat"

bool trend_decided(const std::optional<Bounds>& b) {
  return b && (b->high < 0 || b->low > 0 || b->high - b->low < kFlat);
}

std::string trend(double slope, const std::optional<Bounds>& b, const char* by) {
  const char* word = !trend_decided(b) ? "may move"
                     : b->high < 0     ? "falls"
                     : b->low > 0      ? "rises"
                                       : "is flat";
  return fmt::format("{} with {} (power {}{}{})", word, by, number(slope), interval(b),
                     trend_decided(b) ? "" : ": not decided");
}

Verdict rate_verdict(const std::vector<CellRow>& cells, const ConcludeOptions& options,
                     const Conclusions& c) {
  Verdict v{"learning-rate", "", "not decided", {}};
  size_t trials = 0, with = 0, certified = 0, frontier = 0;
  for (const CellRow& cell : cells) {
    if (std::isnan(cell.loss)) continue;
    ++with;
    trials += static_cast<size_t>(std::max(0, cell.trials));
    frontier += cell.frontier;
    certified += cell.frontier && cell.certified;
    v.cells.push_back(cell.cell);
  }
  if (c.rate) {
    v.sentence = "The best learning rate " + trend(c.rate->q, c.rate->q_interval, "epochs") +
                 " and " + trend(c.rate->p, c.rate->p_interval, "parameters") +
                 fmt::format(", by {} cells; ", c.rate->cells);
    if (trend_decided(c.rate->q_interval)) v.state = "decided";
  } else {
    v.sentence = "How the best learning rate moves needs six cells with two rates each; ";
    v.state = options.complete ? "not decided" : "waits";
    if (!options.complete) v.cells = waiting_cells(cells);
  }
  v.sentence += fmt::format("{} trials in {} cells", trials, with);
  if (frontier)
    v.sentence += fmt::format(
        "; {} of the {} cells on the frontier are certified (both neighbouring rates tried and "
        "found worse)",
        certified, frontier);
  v.sentence += ".";
  return v;
}

std::optional<Verdict> fault_verdict(const std::vector<CellRow>& cells,
                                     const ConcludeOptions& options, const Conclusions& c) {
  Verdict v{"faults", "", "decided", {}};
  std::vector<std::string> parts;
  for (size_t i = 0; i < c.influence.size(); ++i) {
    const CellInfluence& one = c.influence[i];
    if (!one.flagged) continue;
    std::string text = fmt::format("{} ({}", one.cell, one.why);
    if (!std::isnan(one.exponent_without) && c.law.method == "tangent")
      text += fmt::format("; {} it the exponent is {}, the ratio {}",
                          options.drop_flagged ? "with" : "without", number(one.exponent_without),
                          number(one.ratio_without));
    parts.push_back(text + ")");
    v.cells.push_back(cells[i].cell);
  }
  if (parts.empty()) return std::nullopt;
  v.sentence = fmt::format("Flagged and {}: {}.",
                           options.drop_flagged ? "left out of every fit" : "kept in the fits",
                           join(parts, "; "));
  return v;
}

std::optional<Verdict> candidate_verdict(const Conclusions& c) {
  if (c.candidates.empty()) return std::nullopt;
  Verdict v{"fine-tuning", "", "decided", {}};
  std::vector<std::string> parts;
  for (const Candidate& one : c.candidates) {
    parts.push_back(
        fmt::format("({}) {} at learning rate {:g}: {}", one.role, one.cell, one.lr, one.why));
    if (std::find(v.cells.begin(), v.cells.end(), one.cell) == v.cells.end())
      v.cells.push_back(one.cell);
  }
  v.sentence = "To be fine-tuned: " + join(parts, "; ") + ".";
  return v;
}

std::optional<Verdict> record_verdict(const Conclusions& c) {
  if (c.record.empty()) return std::nullopt;
  Verdict v{"record", "", "decided", {}};
  std::vector<std::string> parts;
  for (const ExtrapolationRecord& r : c.record) {
    parts.push_back(
        fmt::format("from below 1/{:g} of the compute the {} dearer frontier cells are predicted "
                    "within {:.2g} % ({:+.2g} % on average; the naive forecast {:.2g} %)",
                    r.cut, r.scored, 100 * std::expm1(r.rms), 100 * std::expm1(r.bias),
                    100 * std::expm1(r.naive_rms)));
    for (const auto& p : r.points)
      if (std::find(v.cells.begin(), v.cells.end(), p.cell) == v.cells.end())
        v.cells.push_back(p.cell);
  }
  v.sentence = "This method's own record here: " + join(parts, "; ") + ".";
  return v;
}

std::optional<Verdict> noise_verdict(const std::vector<CellRow>& cells,
                                     const ConcludeOptions& options) {
  if (!(options.sigma > 0)) return std::nullopt;
  Verdict v{"noise", "", "decided", {}};
  v.sentence = fmt::format(
      "Noise: runs that differ by their seed alone differ by {:.3g} nats (standard deviation)",
      options.sigma);
  Vector bends;
  for (const CellRow& c : cells)
    if (c.curvature > 0) bends.push_back(c.curvature);
  if (!bends.empty() && options.sigma > median_of(bends))
    v.sentence += fmt::format(
        ", more than a step of the learning rate costs ({:.3g} nats): the search cannot see a "
        "single step",
        median_of(bends));
  v.sentence += ".";
  return v;
}

}  // namespace

void add_verdicts(const std::vector<CellRow>& cells, const ConcludeOptions& options,
                  const std::string& missing, Conclusions& c) {
  c.verdicts.push_back(law_verdict(cells, options, missing, c));
  const bool any =
      std::any_of(cells.begin(), cells.end(), [](const CellRow& r) { return !std::isnan(r.loss); });
  if (!any) return;
  if (c.law.method == "tangent") {
    c.verdicts.push_back(same_rate_verdict(cells, c));
    c.verdicts.push_back(touch_verdict(cells, c));
  }
  c.verdicts.push_back(optimum_verdict(cells, options, c));
  c.verdicts.push_back(rate_verdict(cells, options, c));
  for (auto& v : {fault_verdict(cells, options, c), candidate_verdict(c), record_verdict(c),
                  noise_verdict(cells, options)})
    if (v) c.verdicts.push_back(*v);
  if (!options.complete)
    c.limits.push_back(
        "It is not complete: cells without a result may change every sentence above.");
  if (c.law.method == "tangent")
    c.limits.push_back(fmt::format(
        "The law holds between {} and {} {}; the dashed parts are an extrapolation, whose record "
        "is figure 7.",
        plain_number(c.law.measured_low), plain_number(c.law.measured_high), c.axis));
  if (c.law.method == "pareto")
    c.limits.push_back(
        "Where the best epoch budget of a model lies: longer budgets (or larger models) would "
        "tell.");
  c.limits.push_back(
      "Rates were chosen by the same held-out loss that is reported, so the best of a few noisy "
      "runs looks slightly better than it is.");
  if (options.by_hours)
    c.limits.push_back(
        "Device hours are those of this machine and this program; another device, or a faster "
        "program, moves the models against each other.");
}

}  // namespace nfscale
