// How often the intervals that nfscale prints hold the truth: invented tables with a known answer,
// drawn again and again. One row for each interval: nominal and measured coverage, mean width.
//   coverage [TABLES [DRAWS]]      tables for each row (200), draws of a bootstrap (200)
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "base/random.h"
#include "fit/laws.h"
#include "study/conclude.h"
#include "study/synthetic_law.h"

using namespace nfscale;

namespace {

int tables = 200, draws = 200;

double noise(uint64_t table, uint32_t row) {
  const Words w = words(977000 + table, Op::study, row);
  return normal_pair(w[0], w[1]).first;
}

struct Count {
  std::string name;
  double nominal = 0.95;
  int asked = 0, given = 0, held = 0, open = 0;
  Vector widths = {};

  void add(const std::optional<Bounds>& b, double truth) {
    ++asked;
    if (!b) return;
    ++given;
    held += b->low <= truth && truth <= b->high;
    if (std::isfinite(b->high - b->low))
      widths.push_back(b->high - b->low);
    else
      ++open;
  }
  void print() const {
    std::printf("| %s | %.0f %% | %.1f %% | %d of %d | %d | %.4g |\n", name.c_str(), 100 * nominal,
                given ? 100.0 * held / given : NAN, given, asked, open,
                widths.empty() ? NAN : median_of(widths));
    std::fflush(stdout);
  }
};

std::optional<Bounds> percent95(const Vector& d) {
  if (d.size() < 20) return std::nullopt;
  return Bounds{percentile(d, 2.5), percentile(d, 97.5)};
}

// Cells of the invented study: seven rates around 1.6, each with noise, the vertex of the three
// around the best.
std::vector<CellRow> study_cells(uint64_t table) {
  Csv csv{"synthetic",
          {"model", "params", "macs", "epochs", "lr", "status", "heldout_loss", "device_hours"},
          {}};
  uint32_t row = 0;
  for (int i = 0; i < 6; ++i)
    for (const double e : law::kEpochs)
      for (const double lr : {0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4}) {
        const double loss = law::loss(i, e, lr) + 0.002 * noise(table, row++);
        if (!std::isfinite(loss)) continue;
        csv.rows.push_back({law::model(i).name, csv_number(law::model(i).params),
                            csv_number(law::model(i).macs), csv_number(e), csv_number(lr), "done",
                            csv_number(loss), csv_number(law::hours(i, e))});
      }
  return cells_of_trials(csv);
}

void study_rows() {
  Count tangent{"study: exponent, common tangent alone"}, slices{"study: exponent, slices alone"},
      both{"study: exponent, union"}, tangent_ratio{"study: ratio of rates, common tangent alone"},
      slices_ratio{"study: ratio of rates, slices alone"}, ratio{"study: ratio of rates, union"},
      band{"study: the law's band at 1e4 hours"}, bend{"study: curvature of the frontier"},
      half{"study: a cell that was not run, 50 %", 0.5}, cell{"study: a cell that was not run"};
  for (int t = 0; t < tables; ++t) {
    std::vector<CellRow> cells = study_cells(static_cast<uint64_t>(t));
    std::vector<FrontierPoint> points;
    for (const CellRow& c : cells)
      points.push_back({c.model, c.device_hours, c.loss_vertex, c.params, c.epochs, c.macs});
    DrawOptions options;
    options.draws = draws;
    options.seed = static_cast<uint64_t>(t);
    options.at = {1e4};
    const FrontierDraws d = draw_frontier(points, LawKind::tangent, options);
    tangent.add(percent95(d.tangent_exponent), 0.04);
    slices.add(percent95(d.slices_exponent), 0.04);
    tangent_ratio.add(percent95(d.tangent_ratio), 1);
    slices_ratio.add(percent95(d.slices_ratio), 1);
    ConcludeOptions conclude_options;
    conclude_options.draws = draws;
    conclude_options.seed = static_cast<uint64_t>(t);
    // A size between and beyond the grid's budgets, at 1.4 times the largest compute.
    CellRow target;
    target.cell = "target";
    target.params = law::model(5).params;
    target.epochs = 11;
    target.device_hours = law::hours(5, 11);
    target.macs = law::model(5).macs;
    conclude_options.targets = {target};
    const Conclusions c = conclude(cells, conclude_options);
    both.add(c.law.exponent, 0.04);
    ratio.add(c.law.ratio, 1);
    bend.add(c.law.curvature, 0);
    const auto first = percent95(d.line[0]), second = percent95(d.slices_line[0]);
    if (first && second)
      band.add(Bounds{std::exp(std::min(first->low, second->low)),
                      std::exp(std::max(first->high, second->high))},
               2.6);
    if (!c.forecasts.empty()) {
      const double truth = law::best_loss(5, 11) + 0.002 * noise(static_cast<uint64_t>(t), 9999);
      half.add(c.forecasts[0].interval50, truth);
      cell.add(c.forecasts[0].interval95, truth);
    }
  }
  for (const Count* c : {&tangent, &slices, &both, &tangent_ratio, &slices_ratio, &ratio, &band,
                         &bend, &half, &cell})
    c->print();
}

FitTable xy(uint64_t table, size_t n, double decades, const std::function<double(double)>& y,
            double sigma) {
  FitTable t;
  t.columns = {{"x", "x"}, {"y", "y"}};
  for (size_t i = 0; i < n; ++i) {
    const double x = std::pow(10, decades * static_cast<double>(i) / static_cast<double>(n - 1));
    t.rows.push_back({x, y(x) * std::exp(sigma * noise(table, static_cast<uint32_t>(i)))});
    t.names.push_back("row");
  }
  return t;
}

FitOptions options_of(uint64_t table, double level = 0.95) {
  FitOptions options;
  options.draws = draws;
  options.seed = table;
  options.level = level;
  return options;
}

std::optional<Bounds> found(const LawFit& fit, const char* name) {
  const auto b = fit.interval.find(name);
  return b == fit.interval.end() ? std::nullopt : std::optional(b->second);
}

// L = E + C^-0.3 over one decade, noise 0.5 %, and what it is three decades on.
void power_rows() {
  for (const size_t n : {5, 12, 30}) {
    Count exponent{"power: exponent, " + std::to_string(n) + " rows"};
    for (int t = 0; t < tables; ++t) {
      const auto key = static_cast<uint64_t>(t);
      const LawFit fit = fit_law("power",
                                 xy(
                                     key, n, 1, [](double x) { return std::pow(x, -0.3); }, 5e-3),
                                 options_of(key));
      exponent.add(found(fit, "exponent"), 0.3);
    }
    exponent.print();
  }
  for (const double floor : {0.0, 1.6})
    for (const size_t n : {5, 12, 30}) {
      const std::string what = ", E = " + std::string(floor > 0 ? "1.6" : "0") + ", " +
                               std::to_string(n) + " rows over a decade";
      Count level{"power+floor: floor" + what}, ahead{"power+floor: three decades on" + what, 0.9};
      for (int t = 0; t < tables; ++t) {
        const auto key = static_cast<uint64_t>(t);
        const auto truth = [&](double x) { return floor + std::pow(x, -0.3); };
        FitOptions options = options_of(key);
        const LawFit fit = fit_law("power+floor", xy(key, n, 1, truth, 5e-3), options);
        level.add(found(fit, "floor"), floor);
        options.level = 0.9;
        options.at = {1e4};
        const LawFit at = fit_law("power+floor", xy(key, n, 1, truth, 5e-3), options);
        ahead.add(at.forecasts[0].interval, truth(1e4));
      }
      level.print();
      ahead.print();
    }
}

void curve_rows() {
  Count c3{"curve3: c, 30 rows"}, gamma{"curve3: gamma, 30 rows"};
  const int some = std::max(1, tables / 2);
  for (int t = 0; t < some; ++t) {
    const auto key = static_cast<uint64_t>(t);
    const auto truth = [](double x) { return 0.8 * std::pow(1 / x + 2e-4, 0.35); };
    const LawFit fit = fit_law("curve3", xy(key, 30, 4, truth, 5e-3), options_of(key));
    c3.add(found(fit, "c"), 0.35);
    gamma.add(found(fit, "gamma"), 2e-4);
  }
  c3.print();
  gamma.print();
}

// Sizes and unique data on a grid, up to 32 passes over the data; R_D = 15, R_N = 5, and
// coefficients given, as the published law has them (Muennighoff et al., arXiv 2305.16264).
void repeat_rows() {
  Count data{"repeat: R_D, 72 rows"}, params{"repeat: R_N, 72 rows"};
  const int some = std::max(1, tables / 4);
  const double a = 6.255414, b = 7.3049974, e = 0.6254804, alpha = 0.3526596;
  for (int t = 0; t < some; ++t) {
    const auto key = static_cast<uint64_t>(t);
    FitTable table;
    table.columns = {{"params", "params"},
                     {"tokens", "tokens"},
                     {"unique_tokens", "unique_tokens"},
                     {"loss", "loss"}};
    uint32_t row = 0;
    for (const double n : {1e8, 3e8, 1e9, 3e9})
      for (const double u : {1e9, 5e9, 25e9})
        for (const double passes : {1, 2, 4, 8, 16, 32}) {
          const double optimum = std::exp((a - b) / alpha) * u, base = std::min(n, optimum);
          const double rd = passes - 1, rn = std::max(n / base - 1, 0.0);
          const double d = u * (1 + 15 * (1 - std::exp(-rd / 15)));
          const double size = base * (1 + 5 * (1 - std::exp(-rn / 5)));
          const double loss = std::exp(e) + std::exp(a) * std::pow(size, -alpha) +
                              std::exp(b) * std::pow(d, -alpha);
          table.rows.push_back({n, u * passes, u, loss * std::exp(3e-3 * noise(key, row++))});
          table.names.push_back("row");
        }
    FitOptions options = options_of(key);
    options.fix = {{"a", a}, {"b", b}, {"e", e}, {"alpha", alpha}, {"beta", alpha}};
    const LawFit fit = fit_law("repeat", table, options);
    data.add(found(fit, "R_D"), 15);
    params.add(found(fit, "R_N"), 5);
  }
  data.print();
  params.print();
}

// y with (y - 0.1) / (0.9 - y)^0.5 = 30 x^-0.4.
void curve4_rows() {
  Count c{"curve4: c, 40 rows"}, floor{"curve4: floor, 40 rows"};
  const int some = std::max(1, tables / 4);
  for (int t = 0; t < some; ++t) {
    const auto key = static_cast<uint64_t>(t);
    const auto truth = [](double x) {
      double low = 0.1, high = 0.9;
      for (int i = 0; i < 60; ++i) {
        const double y = (low + high) / 2;
        (y - 0.1 > 30 * std::pow(x, -0.4) * std::sqrt(0.9 - y) ? high : low) = y;
      }
      return low;
    };
    const LawFit fit = fit_law("curve4", xy(key, 40, 6, truth, 5e-3), options_of(key));
    c.add(found(fit, "c"), -0.4);
    floor.add(found(fit, "floor"), 0.1);
  }
  c.print();
  floor.print();
}

void joint_rows() {
  Count e{"joint: E, 40 rows"}, alpha{"joint: alpha, 40 rows"}, beta{"joint: beta, 40 rows"},
      p{"lr: power of params, 17 rows"}, q{"lr: power of tokens, 17 rows"},
      iso{"isoflop: exponent, 9 budgets of 7 sizes"};
  const int some = std::max(1, tables / 2);
  for (int t = 0; t < some; ++t) {
    const auto key = static_cast<uint64_t>(t);
    FitTable table, rates;
    table.columns = {{"params", "params"}, {"tokens", "tokens"}, {"loss", "loss"}};
    rates.columns = {{"params", "params"}, {"tokens", "tokens"}, {"lr", "lr"}};
    uint32_t row = 0;
    for (int i = 0; i < 8; ++i)
      for (int j = 0; j < 5; ++j) {
        const double n = 1e7 * std::exp2(i), d = 2e8 * std::pow(4, j);
        const double loss = 1.7 + 400 * std::pow(n, -0.34) + 400 * std::pow(d, -0.28);
        table.rows.push_back({n, d, loss * std::exp(3e-3 * noise(key, row))});
        table.names.push_back("row");
        if (row % 5 == 0 || row % 5 == 3) {
          rates.rows.push_back(
              {n, d, std::pow(n, -0.7) * std::pow(d, 0.3) * std::exp(0.1 * noise(key, 500 + row))});
          rates.names.push_back("row");
        }
        ++row;
      }
    const LawFit fit = fit_law("joint", table, options_of(key));
    e.add(found(fit, "E"), 1.7);
    alpha.add(found(fit, "alpha"), 0.34);
    beta.add(found(fit, "beta"), 0.28);
    FitOptions squares = options_of(key);
    squares.huber = INFINITY;
    const LawFit rate = fit_law("lr", rates, squares);
    p.add(found(rate, "p"), -0.7);
    q.add(found(rate, "q"), 0.3);
    // Optimal size C^0.5, parabolas of curvature 0.02 around it.
    FitTable budgets;
    budgets.columns = {{"flops", "flops"}, {"size", "params"}, {"loss", "loss"}};
    row = 1000;
    for (int b = 0; b < 9; ++b)
      for (int k = -3; k <= 3; ++k) {
        const double flops = 1e16 * std::exp2(b), n = 0.1 * std::sqrt(flops) * std::exp2(0.7 * k);
        const double u = std::log(2) * 0.7 * k;
        budgets.rows.push_back(
            {flops, n,
             3 * std::pow(flops, -0.05) * std::exp(0.02 * u * u + 2e-3 * noise(key, row++))});
        budgets.names.push_back("row");
      }
    iso.add(found(fit_law("isoflop", budgets, options_of(key)), "exponent"), 0.5);
  }
  for (const Count* c : {&e, &alpha, &beta, &p, &q, &iso}) c->print();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) tables = std::max(2, std::atoi(argv[1]));
  if (argc > 2) draws = std::max(20, std::atoi(argv[2]));
  std::printf(
      "| interval | nominal | holds the truth | given | open | median width |\n"
      "| --- | --- | --- | --- | --- | --- |\n");
  study_rows();
  power_rows();
  curve_rows();
  curve4_rows();
  joint_rows();
  repeat_rows();
}
