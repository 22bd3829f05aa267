// What fine-tuning the candidates of a study says.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "study/conclude.h"

namespace nfscale {
namespace {

// Places by value, from 0; equal values share the mean of theirs.
Vector ranks(const Vector& values) {
  Vector ranks;
  for (const double v : values) {
    double below = 0, equal = 0;
    for (const double w : values) {
      below += w < v;
      equal += w == v;
    }
    ranks.push_back(below + (equal - 1) / 2);
  }
  return ranks;
}

// Spearman's; NaN where all of one are equal, and of two points, of which it can only be 1 or -1.
double rank_correlation(const Vector& x, const Vector& y) {
  if (x.size() < 3) return std::nan("");
  const Vector a = ranks(x), b = ranks(y);
  const double middle = (static_cast<double>(a.size()) - 1) / 2;
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - middle) * (b[i] - middle);
    aa += (a[i] - middle) * (a[i] - middle);
    bb += (b[i] - middle) * (b[i] - middle);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : std::nan("");
}

std::string error_text(const FinetunedPoint& p) {
  return fmt::format("{} at learning rate {:g}: {:.3g} % +- {:.2g}", p.cell, p.lr, p.error,
                     p.standard_error);
}

// Of one recipe, the best first. `decided` where the best differs from the next by more than its
// pictures explain.
std::string recipe_text(std::vector<FinetunedPoint> points, bool& decided) {
  std::stable_sort(
      points.begin(), points.end(),
      [](const FinetunedPoint& a, const FinetunedPoint& b) { return a.error < b.error; });
  std::string text = fmt::format("With {} the best is {}", points[0].recipe, error_text(points[0]));
  if (points.size() < 2) {
    decided = false;
    return text + ", the only one.";
  }
  std::vector<std::string> others;
  Vector loss, error;
  for (size_t i = 0; i < points.size(); ++i) {
    if (i > 0) others.push_back(error_text(points[i]));
    loss.push_back(points[i].loss);
    error.push_back(points[i].error);
  }
  const double noise = std::hypot(points[0].standard_error, points[1].standard_error);
  const bool clear = points[1].error - points[0].error > 1.96 * noise;
  decided &= clear;
  text += fmt::format(" ({}){}", join(others, "; "),
                      clear ? "" : ", which its pictures are too few to tell from the next");
  if (const double r = rank_correlation(loss, error); std::isfinite(r))
    text += fmt::format(
        "; the rank correlation of held-out loss and fine-tuned error is {:.2g} over {} "
        "checkpoints",
        r, points.size());
  return text + ".";
}

}  // namespace

std::optional<Verdict> finetuned_verdict(const std::vector<FinetunedPoint>& points) {
  if (points.empty()) return std::nullopt;
  std::vector<std::string> recipes, parts;
  Verdict v{"fine-tuned", "", "", {}};
  for (const FinetunedPoint& p : points) {
    if (std::find(recipes.begin(), recipes.end(), p.recipe) == recipes.end())
      recipes.push_back(p.recipe);
    if (std::find(v.cells.begin(), v.cells.end(), p.cell) == v.cells.end())
      v.cells.push_back(p.cell);
  }
  bool decided = true;
  for (const std::string& recipe : recipes) {
    std::vector<FinetunedPoint> own;
    for (const FinetunedPoint& p : points)
      if (p.recipe == recipe) own.push_back(p);
    parts.push_back(recipe_text(own, decided));
  }
  v.state = decided ? "decided" : "not decided";
  v.sentence = "Top-1 error after fine-tuning: " + join(parts, " ");
  return v;
}

Json candidates_json(const StudyConclusions& conclusions) {
  Json list = Json::array();
  for (const Conclusions& c : conclusions.families)
    for (const Candidate& one : c.candidates)
      if (!one.run_id.empty())
        list.push(Json::object(
            {{"run_id", one.run_id}, {"cell", one.cell}, {"role", one.role}, {"why", one.why}}));
  return list;
}

}  // namespace nfscale
