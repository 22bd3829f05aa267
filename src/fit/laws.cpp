#include "fit/laws.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "fit/problem.h"

namespace nfscale {
namespace {

const Formula& formula_of(const std::string& law) {
  for (const Formula& f : formulas())
    if (f.name == law) return f;
  fail(Exit::usage, "law {}: not known (nearest: {})", law, nearest(law, law_names()));
}

Vector held_of(const Formula& f, const FitOptions& options) {
  Vector held(f.parameters.size(), std::nan(""));
  for (const auto& [name, value] : options.fix) {
    std::vector<std::string> names;
    for (size_t k = 0; k < held.size() && !f.natural; ++k) {
      const Parameter& p = f.parameters[k];
      names.push_back(p.name);
      if (p.name != name) continue;
      if (p.logarithm && !(value > 0))
        fail(Exit::usage, "--fix {}: expected a positive number, found {}", name,
             number_text(value));
      held[k] = p.logarithm ? std::log(value) : value;
    }
    if (names.empty())
      fail(Exit::usage, "--fix {}: no parameter of the law {} can be given", name, f.name);
    if (std::find(names.begin(), names.end(), name) == names.end())
      fail(Exit::usage, "--fix {}: not a parameter of the law {} (nearest: {})", name, f.name,
           nearest(name, names));
  }
  return held;
}

// Where a coordinate has bounds and the objective hardly rises towards one, the end is open too.
void open_flat_ends(const FitProblem& problem, const Minimum& best, LawFit& fit) {
  const Vector theta = problem.whole(best.at);
  for (size_t k = 0; k < theta.size(); ++k) {
    const Parameter& p = problem.formula.parameters[k];
    if (std::isinf(p.high) || !std::isnan(problem.held[k])) continue;
    Vector near = theta;
    if (with_held(problem, k, p.high, near).value < 1.01 * best.value)
      fit.interval[p.name].high = INFINITY;
  }
}

void add_leave_one_out(const FitProblem& problem, const Minimum& best, LawFit& fit) {
  constexpr size_t kShown = 5;
  const size_t n = problem.rows.size();
  const size_t most = problem.table.columns.size() == 2 ? 60 : 400;  // a curve has many alike
  constexpr size_t kSpare = 8;  // rows beyond the parameters: with fewer, none can be called far
  if (n > most || n < problem.free_count() + kSpare || best.value < 1e-20) return;
  const std::vector<std::string> names = natural_names(problem.formula);
  const Vector here = natural_values(problem.formula, problem.whole(best.at), problem.context);
  std::vector<LawFit::Left> all;
  for (size_t i = 0; i < n; ++i) {
    FitProblem without = problem;
    without.rows.erase(without.rows.begin() + static_cast<ptrdiff_t>(i));
    const Minimum m = descend(without, best.at, 20, 60);
    const Vector theta = without.whole(m.at);
    Vector rest;
    for (const size_t row : without.rows) rest.push_back(without.residual(theta, row));
    const double middle = median_of(rest);
    for (double& r : rest) r = std::abs(r - middle);
    LawFit::Left left;
    left.row = problem.table.names[problem.rows[i]];
    left.z = -problem.residual(theta, problem.rows[i]) / (1.4826 * median_of(rest));
    const Vector there = natural_values(problem.formula, theta, problem.context);
    for (size_t k = 0; k < names.size(); ++k) left.shift[names[k]] = there[k] - here[k];
    all.push_back(std::move(left));
  }
  std::stable_sort(all.begin(), all.end(), [](const LawFit::Left& a, const LawFit::Left& b) {
    return std::abs(a.z) > std::abs(b.z);
  });
  std::vector<std::string> far;
  for (const LawFit::Left& left : all)
    if (std::abs(left.z) > 6) far.push_back(fmt::format("{} ({:+.1f} sigma)", left.row, left.z));
  if (!far.empty()) {
    const size_t more = far.size() > kShown ? far.size() - kShown : 0;
    far.resize(far.size() - more);
    fit.warnings.push_back("far from what the other rows say: " + join(far, ", ") +
                           (more ? fmt::format(" and {} more", more) : std::string()));
  }
  all.resize(std::min(kShown, all.size()));
  fit.leave_one_out = std::move(all);
}

// A floor is believed where it predicts the largest tenth of x better than none does.
void judge_floor(const FitTable& table, const FitOptions& options, LawFit& fit) {
  const size_t n = table.rows.size(), out = std::max<size_t>(1, n / 10);
  if (n < out + 4) return;
  const auto part = [&](size_t begin, size_t end) {
    FitTable t;
    t.columns = table.columns;
    t.rows.assign(table.rows.begin() + static_cast<ptrdiff_t>(begin),
                  table.rows.begin() + static_cast<ptrdiff_t>(end));
    t.names.assign(table.names.begin() + static_cast<ptrdiff_t>(begin),
                   table.names.begin() + static_cast<ptrdiff_t>(end));
    return t;
  };
  const FitTable below = part(0, n - out), above = part(n - out, n);
  const auto error = [&](const char* law) {
    const Formula& f = formula_of(law);
    FitOptions plain = options;
    if (std::string_view(law) == "power") plain.fix.erase("floor");
    const FitProblem problem = make_problem(f, below, options.huber, held_of(f, plain));
    const Fitted fitted = fit_from(problem, f.starts(below, problem.context));
    LawFit some;
    some.law = law;
    some.theta = problem.whole(fitted.best.at);
    some.context = problem.context;
    return score_law(some, above).rms;
  };
  const double with = error("power+floor"), without = error("power");
  const auto bounds = fit.interval.find("floor");
  const bool known = bounds != fit.interval.end();
  const bool identified = with < without && !(known && std::isinf(bounds->second.low));
  fit.more.set("floor_identified", identified);
  if (identified) return;
  const bool limit = known && std::isfinite(bounds->second.high);
  fit.warnings.push_back(fmt::format(
      "no floor can be told from zero{}; the largest tenth of x is predicted with an error of "
      "{:.2g} "
      "with a floor, {:.2g} without",
      limit ? fmt::format(", it is at most {:.4g}", bounds->second.high) : "", with, without));
}

// The coefficients of `repeat` that come from the runs that repeat nothing.
FitOptions first_stage(const FitTable& table, const FitOptions& options, LawFit& fit) {
  const std::vector<std::string> names = {"a", "b", "e", "alpha", "beta"};
  const auto given = std::count_if(names.begin(), names.end(),
                                   [&](const auto& name) { return options.fix.contains(name); });
  if (given == static_cast<ptrdiff_t>(names.size())) return options;
  if (given > 0)
    fail(Exit::usage, "--fix: give all of a, b, e, alpha and beta to the law repeat, or none");
  FitTable once;
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const Vector& row = table.rows[i];
    if (row[1] > row[2] * (1 + 1e-6)) continue;
    once.rows.push_back({row[0], row[1], row[3]});
    once.names.push_back(table.names[i]);
  }
  if (once.rows.size() < 6)
    fail(Exit::usage,
         "law repeat: {} rows without repetition (tokens at most unique_tokens), at least 6 are "
         "needed; or give a, b, e, alpha and beta by --fix",
         once.rows.size());
  const Formula& f = tied_formula();
  const FitProblem problem = make_problem(f, once, options.huber, Vector(4, std::nan("")));
  const Fitted fitted = fit_from(problem, f.starts(once, problem.context));
  const Vector& p = fitted.best.at;
  FitOptions all = options;
  for (size_t k = 0; k < names.size(); ++k) all.fix[names[k]] = p[std::min<size_t>(k, 3)];
  fit.more.set("first_stage",
               Json::object({{"rows", once.rows.size()}, {"objective", fitted.best.value}}));
  return all;
}

void add_intervals(const FitProblem& problem, const Fitted& fitted, const FitOptions& options,
                   LawFit& fit) {
  const Formula& f = problem.formula;
  const Vector theta = problem.whole(fitted.best.at);
  if (f.profile) {
    if (problem.rows.size() <= problem.free_count()) return;
    fit.interval_method = "profile of the squared residuals";
    for (size_t k = 0; k < theta.size(); ++k)
      if (std::isnan(problem.held[k]))
        fit.interval[f.parameters[k].name] = profile_interval(problem, k, theta, options.level);
    return;
  }
  fit.interval_method = fmt::format("rows drawn again {} times", options.draws);
  if (options.draws == 0) return;
  std::vector<Vector> starts = {fitted.best.at};
  for (const Minimum& m : fitted.near) starts.push_back(m.at);
  starts.resize(std::min<size_t>(4, starts.size()));
  const Resampled draws = resample(problem, starts, options);
  const std::vector<std::string> names = natural_names(f);
  for (size_t k = 0; k < names.size(); ++k)
    if (k >= problem.held.size() || std::isnan(problem.held[k]))
      fit.interval[names[k]] = percentile_interval(draws.values[k], draws.ends[k], options.level);
  open_flat_ends(problem, fitted.best, fit);
}

// The last column of the laws of one variable at given places.
void add_forecasts(const FitProblem& problem, const Vector& theta, const FitOptions& options,
                   LawFit& fit) {
  for (const double x : options.at) {
    LawFit::Forecast forecast;
    forecast.x = x;
    const double row[] = {x, 1};
    forecast.y = std::exp(problem.formula.value(theta.data(), row, problem.context));
    if (problem.formula.profile)
      forecast.interval = forecast_interval(problem, theta, x, options.level);
    fit.forecasts.push_back(forecast);
  }
}

}  // namespace

double LawFit::param(std::string_view name) const {
  for (const auto& [n, value] : params)
    if (n == name) return value;
  return std::nan("");
}

std::vector<std::string> law_names() {
  std::vector<std::string> names;
  for (const Formula& f : formulas()) names.push_back(f.name);
  names.push_back("isoflop");
  return names;
}

std::vector<std::string> law_columns(const std::string& law) {
  if (law == "isoflop") return {"flops", "size", "loss"};
  return formula_of(law).columns;
}

LawFit fit_law(const std::string& law, const FitTable& table, const FitOptions& options) {
  if (const size_t needed = law_columns(law).size(); table.columns.size() != needed)
    fail(Exit::usage, "law {}: {} columns, {} are needed", law, table.columns.size(), needed);
  if (!options.at.empty() && !(law_columns(law) == std::vector<std::string>{"x", "y"}))
    fail(Exit::usage, "--at: the law {} has no y over x to predict; power and others of x do", law);
  if (law == "isoflop") return fit_isoflop(table, options);
  const Formula& f = formula_of(law);
  LawFit fit;
  fit.law = law;
  const FitOptions all = law == "repeat" ? first_stage(table, options, fit) : options;
  const FitProblem problem = make_problem(f, table, options.huber, held_of(f, all));
  if (table.rows.size() < std::max<size_t>(2, problem.free_count()))
    fail(Exit::usage, "law {}: {} rows, at least {} are needed", law, table.rows.size(),
         std::max<size_t>(2, problem.free_count()));
  const Fitted fitted = fit_from(problem, f.starts(table, problem.context));
  if (!std::isfinite(fitted.best.value) || fitted.best.at.size() != problem.free_count())
    fail(Exit::usage, "law {}: no start came to a finite value; look at the columns", law);
  fit.theta = problem.whole(fitted.best.at);
  fit.context = problem.context;
  fit.objective = fitted.best.value;
  if (std::isinf(options.huber))
    fit.objective_name = "half the sum of squares of ln predicted - ln observed";
  fit.starts = fitted.starts;
  fit.reached = fitted.reached;
  const std::vector<std::string> names = natural_names(f);
  const Vector values = natural_values(f, fit.theta, fit.context);
  for (size_t k = 0; k < names.size(); ++k) fit.params.emplace_back(names[k], values[k]);
  for (size_t i = 0; i < table.rows.size(); ++i)
    fit.residual.push_back(problem.residual(fit.theta, i));
  Json minima = Json::array();
  for (const Minimum& m : fitted.near) {
    const Vector at = natural_values(f, problem.whole(m.at), fit.context);
    Json params = Json::object();
    for (size_t k = 0; k < names.size(); ++k) params.set(names[k], at[k]);
    minima.push(Json::object({{"objective", m.value}, {"params", params}}));
  }
  fit.more.set("minima_within_1_percent", minima);
  if (fit.starts > 4 && fit.reached * 10 < fit.starts)
    fit.warnings.push_back(fmt::format(
        "only {} of {} starts came within 1 % of the least objective", fit.reached, fit.starts));
  add_intervals(problem, fitted, options, fit);
  add_leave_one_out(problem, fitted.best, fit);
  if (law == "power+floor" && !options.fix.contains("floor")) judge_floor(table, options, fit);
  add_forecasts(problem, fit.theta, options, fit);
  return fit;
}

Score score_law(const LawFit& fit, const FitTable& table) {
  if (fit.law == "isoflop") fail(Exit::usage, "--score: the law isoflop predicts no row");
  const Formula& f = formula_of(fit.law);
  Score score;
  for (const Vector& row : table.rows) {
    const double r = f.value(fit.theta.data(), row.data(), fit.context) - std::log(row.back());
    score.rms += r * r;
    score.bias += r;
    ++score.rows;
  }
  score.rms = std::sqrt(score.rms / static_cast<double>(score.rows));
  score.bias /= static_cast<double>(score.rows);
  return score;
}

Bounds percentile_interval(const Vector& draws, const std::vector<int>& at_bound, double level) {
  if (draws.empty()) return {-INFINITY, INFINITY};
  const double outside = (1 - level) / 2, n = static_cast<double>(draws.size());
  Bounds b = {percentile(draws, 100 * outside), percentile(draws, 100 * (1 - outside))};
  const auto share = [&](int end) {
    return static_cast<double>(std::count(at_bound.begin(), at_bound.end(), end)) / n;
  };
  if (share(-1) > outside) b.low = -INFINITY;
  if (share(1) > outside) b.high = INFINITY;
  return b;
}

}  // namespace nfscale
