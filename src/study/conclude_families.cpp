// A study of several families: each has its own conclusions, and where there are two they are
// compared at equal compute.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/text.h"
#include "study/conclude.h"
#include "study/plan.h"

namespace nfscale {
namespace {

double noise_of(const std::vector<CellRow>& cells, const ConcludeOptions& options) {
  if (options.sigma > 0) return options.sigma;
  for (const CellRow& c : cells)
    if (c.sigma > 0) return c.sigma;
  return 0;
}

// The options of all cells for those at some places.
ConcludeOptions options_of(const ConcludeOptions& options, const std::vector<CellRow>& cells,
                           const std::vector<size_t>& places) {
  ConcludeOptions own = options;
  own.sigma = noise_of(cells, options);
  own.trials.clear();
  for (TrialPoint t : options.trials) {
    const auto at = std::find(places.begin(), places.end(), t.cell);
    if (at == places.end()) continue;
    t.cell = static_cast<size_t>(at - places.begin());
    own.trials.push_back(t);
  }
  std::erase_if(own.targets, [&](const CellRow& t) { return t.family != cells[0].family; });
  return own;
}

FamilyPoints points_of(const Conclusions& c, const ConcludeOptions& options) {
  FamilyPoints f = {c.family, {}, 0};
  double loss = 0;
  for (const size_t i : c.used) {
    f.points.push_back(frontier_point(c.cells[i], options.by_hours));
    loss += f.points.back().loss / static_cast<double>(c.used.size());
  }
  if (loss > 0) f.sigma = noise_of(c.cells, options) / loss;
  return f;
}

bool decided(const FamilyGap& gap) {
  return gap.interval && gap.interval->low * gap.interval->high > 0;
}

// "the loss of the NFNets is lower by 0.021 nats, 1.4 % [0.9, 2]"
std::string gap_text(const FamilyComparison& c, const FamilyGap& gap) {
  const bool first = gap.difference >= 0;
  const double sign = first ? 1 : -1;
  const auto percent = [](double d) { return fmt::format("{:.2g}", 100 * std::expm1(d)); };
  std::string text = fmt::format(
      "the loss of the {}s is lower by {:.3g} nats, {} %", family_title(first ? c.first : c.second),
      std::abs(gap.second_loss - gap.first_loss), percent(sign * gap.difference));
  if (!gap.interval) return text + ", which is not decided";
  const double a = sign * gap.interval->low, b = sign * gap.interval->high;
  text += fmt::format(" [{}, {}]", percent(std::min(a, b)), percent(std::max(a, b)));
  return decided(gap) ? text : text + ", which is not decided";
}

Verdict comparison_verdict(const StudyConclusions& s) {
  Verdict v{"families", "", "not decided", {}};
  for (const Conclusions& c : s.families)
    for (const size_t i : c.used) v.cells.push_back(c.cells[i].cell);
  if (!s.comparison) {
    v.sentence =
        "Which family is ahead at equal compute is not decided by these runs: it takes a law, or "
        "three cells that no cheaper one beats, of each, and compute that both have measured.";
    return v;
  }
  const FamilyComparison& c = *s.comparison;
  const std::string& axis = s.families[0].axis;
  if (decided(c.middle)) v.state = "decided";
  v.sentence = fmt::format(
      "{}s against {}s at equal compute: at {} {}, the middle of what both have measured, {}. At "
      "{} {}; at {} {}.",
      family_title(c.first), family_title(c.second), plain_number(c.middle.compute), axis,
      gap_text(c, c.middle), plain_number(c.low.compute), gap_text(c, c.low),
      plain_number(c.high.compute), gap_text(c, c.high));
  return v;
}

void collect_sentences(StudyConclusions& s) {
  const bool several = s.families.size() > 1;
  if (several) s.verdicts.push_back(comparison_verdict(s));
  std::map<std::string, size_t> limits;  // how many families have it
  for (const Conclusions& c : s.families) {
    for (Verdict v : c.verdicts) {
      if (several) v.family = c.family;
      s.verdicts.push_back(v);
    }
    for (const std::string& limit : c.limits) ++limits[limit];
  }
  // Behind the candidates of all families.
  if (const auto finetuned = finetuned_verdict(s.finetuned)) {
    const auto last = std::find_if(s.verdicts.rbegin(), s.verdicts.rend(),
                                   [](const Verdict& v) { return v.name == "fine-tuning"; });
    s.verdicts.insert(last == s.verdicts.rend() ? s.verdicts.end() : last.base(), *finetuned);
  }
  for (const Conclusions& c : s.families)
    for (const std::string& limit : c.limits) {
      const bool common = limits[limit] == s.families.size();
      const std::string text = common ? limit : family_title(c.family) + "s: " + limit;
      if (std::find(s.limits.begin(), s.limits.end(), text) == s.limits.end())
        s.limits.push_back(text);
    }
}

}  // namespace

StudyConclusions conclude_families(std::vector<CellRow>& cells, const ConcludeOptions& options) {
  std::map<std::string, std::vector<size_t>> places;
  for (size_t i = 0; i < cells.size(); ++i) places[cells[i].family].push_back(i);
  StudyConclusions s;
  for (const auto& [family, own] : places) {
    std::vector<CellRow> rows;
    for (const size_t i : own) rows.push_back(cells[i]);
    s.families.push_back(conclude(rows, options_of(options, rows, own)));
    for (size_t i = 0; i < own.size(); ++i) cells[own[i]] = rows[i];
  }
  if (s.families.size() == 2) {
    DrawOptions draws;
    draws.draws = std::min(options.draws, 400);
    draws.seed = options.seed;
    s.comparison = compare_families(points_of(s.families[0], options),
                                    points_of(s.families[1], options), draws);
  }
  s.finetuned = options.finetuned;
  collect_sentences(s);
  return s;
}

}  // namespace nfscale
