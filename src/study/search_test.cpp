#include "study/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "base/csv.h"
#include "base/random.h"
#include "study/synthetic_law.h"

namespace nfscale {
namespace {

using Ask = std::function<double(size_t cell, int k)>;

// Runs a search to its end on losses that `ask` knows; NaN is a trial that cannot be had.
struct Replay {
  std::vector<SearchCell> cells;
  SearchResult result;
  size_t trials = 0, most = 0;
};

Replay replay(const SearchSettings& settings, std::vector<SearchCell> cells, const Ask& ask) {
  Replay r;
  for (int round = 0; round < 1000; ++round) {
    r.result = search(settings, cells);
    if (r.result.finished) break;
    for (const Wanted& w : r.result.next) {
      const double loss = ask(w.cell, w.k);
      if (w.repeat)
        cells[w.cell].repeats[{w.k, w.repeat}] = loss;
      else if (std::isnan(loss))
        cells[w.cell].missing.insert(w.k);
      else
        cells[w.cell].losses[w.k] = loss;
    }
  }
  EXPECT_TRUE(r.result.finished);
  for (const SearchCell& c : cells) {
    r.trials += c.losses.size();
    r.most = std::max(r.most, c.losses.size());
  }
  r.cells = std::move(cells);
  return r;
}

struct Score {
  double cells = 0, trials = 0, regret = 0;
  size_t most = 0;
  double per_cell() const { return trials / cells; }
  double mean() const { return regret / cells; }
};

std::vector<SearchCell> synthetic_cells() {
  std::vector<SearchCell> cells;
  for (int wave = 0; wave < 11; ++wave)
    for (int i = 0; i < 6; ++i)
      if (wave - i >= 0 && wave - i < 6)
        cells.push_back({.i = i,
                         .j = wave - i,
                         .cost = law::hours(i, law::kEpochs[static_cast<size_t>(wave - i)])});
  return cells;
}

std::vector<SearchCell> limited(std::vector<SearchCell> cells, int low, int high) {
  for (SearchCell& c : cells) {
    c.low = low;
    c.high = high;
  }
  return cells;
}

// Clean loss at rate 0.0125 * 2^k; index 7 is 1.6.
double clean(const SearchCell& c, int k, double drift) {
  return law::loss(c.i, law::kEpochs[static_cast<size_t>(c.j)], 0.0125 * std::exp2(k), drift);
}

Score synthetic(SearchSettings settings, int studies, double drift = 1, double sigma = 0.002,
                int start = 7) {
  Score score;
  const std::vector<SearchCell> cells = limited(synthetic_cells(), -start, 11 - start);
  for (int study = 0; study < studies; ++study) {
    const auto ask = [&](size_t c, int k) {
      const auto at = static_cast<uint64_t>(cells[c].i * 100 + cells[c].j * 12 + start + k);
      const Words w = words(static_cast<uint64_t>(1000 + study), Op::study, at);
      return clean(cells[c], start + k, drift) + sigma * normal_pair(w[0], w[1]).first;
    };
    const Replay r = replay(settings, cells, ask);
    score.most = std::max(score.most, r.most);
    score.trials += static_cast<double>(r.trials);
    for (size_t c = 0; c < cells.size(); ++c) {
      double least = kDiverged;
      for (int k = 0; k < 12; ++k) least = std::min(least, clean(cells[c], k, drift));
      score.regret += clean(cells[c], start + *r.result.cells[c].best, drift) - least;
      score.cells += 1;
    }
  }
  return score;
}

SearchSettings uncertified() {
  SearchSettings s;
  s.certify = SearchSettings::Certify::none;
  return s;
}

TEST(Search, TwoTrialsACellFindTheOptimumOfASyntheticLaw) {
  const Score soft = synthetic(uncertified(), 200);
  EXPECT_LE(soft.per_cell(), 2.15);
  EXPECT_LE(soft.mean(), 0.0003);
  EXPECT_LE(soft.most, 6u);
  SearchSettings down = uncertified();
  down.prior = SearchSettings::Prior::down;
  EXPECT_LE(synthetic(down, 100).mean(), 0.0003);
}

TEST(Search, CertifyingTheFrontierCostsLessThanATrialACell) {
  const Score certified = synthetic(SearchSettings(), 100);
  EXPECT_LE(certified.per_cell(), 2.9);
  EXPECT_LE(certified.mean(), 0.0003);
  EXPECT_LE(certified.most, 6u);
}

TEST(Search, OptimaThatRiseOrAStartThatIsWrongDoNotHurt) {
  EXPECT_LE(synthetic(uncertified(), 50, -1).mean(), 0.0003);
  EXPECT_LE(synthetic(uncertified(), 50, 2).mean(), 0.0003);
  const Score bad_start = synthetic(uncertified(), 50, 1, 0.002, 4);
  EXPECT_LE(bad_start.per_cell(), 2.25);
  EXPECT_LE(bad_start.mean(), 0.0003);
  EXPECT_LE(synthetic(uncertified(), 50, 1, 0.006).mean(), 0.0015);
}

// One study for each batch size and half of the factor-sqrt(2) grid of Step Law.
struct TableStudy {
  std::vector<SearchCell> cells;
  std::vector<std::map<int, double>> table;  // by cell and k; the start is k = 0
};

std::vector<TableStudy> step_law() {
  const Csv csv = read_csv(Path(NFSCALE_SOURCE_DIR) / "tests/study/lr_grid_steplaw.csv");
  // batch -> params -> tokens -> index -> loss
  std::map<double, std::map<double, std::map<double, std::map<int, double>>>> all;
  const auto at = [&](size_t row, const char* column) {
    return *csv.number(row, csv.column(column));
  };
  for (size_t r = 0; r < csv.rows.size(); ++r) {
    const double loss = at(r, "loss_smooth");
    all[at(r, "batch")][at(r, "params")][at(r, "tokens")][static_cast<int>(at(r, "lr_index"))] =
        loss < 4 ? loss : kDiverged;
  }
  std::vector<TableStudy> studies;
  for (const auto& [batch, sizes] : all) {
    for (const int parity : {0, 1}) {
      std::vector<std::pair<SearchCell, std::map<int, double>>> found;
      std::vector<int> ks;
      int i = 0;
      for (const auto& [params, budgets] : sizes) {
        int j = 0;
        for (const auto& [tokens, rates] : budgets) {
          std::map<int, double> half;
          for (const auto& [index, loss] : rates)
            if ((index + 100) % 2 == parity) half[(index + 30 - parity) / 2] = loss;
          if (half.size() < 4) continue;
          for (const auto& entry : half) ks.push_back(entry.first);
          found.push_back({{.i = i, .j = j++, .cost = params * tokens}, half});
        }
        ++i;
      }
      if (found.size() < 12) continue;
      std::sort(ks.begin(), ks.end());
      const int start = ks[ks.size() / 2];
      std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
        return a.first.i + a.first.j < b.first.i + b.first.j;
      });
      TableStudy study;
      for (auto& [cell, rates] : found) {
        std::map<int, double> shifted;
        for (const auto& [k, loss] : rates) shifted[k - start] = loss;
        // Holes of the table are trials that cannot be had.
        for (int k = -40; k <= 40; ++k)
          if (!shifted.contains(k)) cell.missing.insert(k);
        study.cells.push_back(cell);
        study.table.push_back(shifted);
      }
      studies.push_back(study);
    }
  }
  return studies;
}

Score step_law_score(const SearchSettings& settings) {
  Score score;
  for (const TableStudy& study : step_law()) {
    const Replay r =
        replay(settings, study.cells, [&](size_t c, int k) { return study.table[c].at(k); });
    score.most = std::max(score.most, r.most);
    score.trials += static_cast<double>(r.trials);
    for (size_t c = 0; c < study.cells.size(); ++c) {
      double least = kDiverged;
      for (const auto& entry : study.table[c]) least = std::min(least, entry.second);
      score.regret += r.result.cells[c].loss - least;
      score.cells += 1;
    }
  }
  return score;
}

TEST(Search, FindsTheOptimumOfMeasuredRuns) {
  const Score soft = step_law_score(uncertified());
  EXPECT_NEAR(soft.cells, 305, 0);
  EXPECT_LE(soft.per_cell(), 2.2);
  EXPECT_LE(soft.mean(), 0.0005);
  const Score certified = step_law_score(SearchSettings());
  EXPECT_LE(certified.per_cell(), 2.9);
  EXPECT_LE(certified.most, 6u);
}

TEST(Search, OneRunFarOffMovesOtherCellsByAtMostOneStep) {
  const std::vector<SearchCell> cells = synthetic_cells();
  const auto ask = [&](size_t c, int k) { return clean(cells[c], 7 + k, 1); };
  const Replay right = replay(uncertified(), cells, ask);
  for (size_t bad = 0; bad < cells.size(); ++bad)
    for (const double off : {0.19, -0.19})
      for (const int bad_k : {*right.result.cells[bad].best, *right.result.cells[bad].best - 1}) {
        const Replay r = replay(uncertified(), cells, [&](size_t c, int k) {
          return ask(c, k) + (c == bad && k == bad_k ? off : 0);
        });
        for (size_t c = 0; c < cells.size(); ++c) {
          if (c == bad) continue;
          EXPECT_LE(std::abs(*r.result.cells[c].best - *right.result.cells[c].best), 1)
              << "cell " << c << " after cell " << bad << " off by " << off << " at " << bad_k;
        }
      }
}

TEST(Search, TheOrderOfArrivalChangesNothing) {
  SearchSettings s;
  s.repeats = 2;
  const std::vector<SearchCell> cells = synthetic_cells();
  const auto ask = [&](size_t c, int k) { return clean(cells[c], 7 + k, 1); };
  const Replay whole = replay(s, cells, ask);
  // One trial at a time, the last that is wanted first.
  std::vector<SearchCell> slow = cells;
  for (;;) {
    const SearchResult r = search(s, slow);
    if (r.finished) break;
    const Wanted& w = r.next.back();
    if (w.repeat)
      slow[w.cell].repeats[{w.k, w.repeat}] = ask(w.cell, w.k);
    else
      slow[w.cell].losses[w.k] = ask(w.cell, w.k);
  }
  for (size_t c = 0; c < cells.size(); ++c) EXPECT_EQ(slow[c].losses, whole.cells[c].losses);
}

// A row of cells whose loss is a function of k alone.
Replay row(SearchSettings s, int n, const std::function<double(int)>& loss,
           std::optional<int> low = {}, std::optional<int> high = {}) {
  std::vector<SearchCell> cells;
  for (int j = 0; j < n; ++j)
    cells.push_back({.i = 0, .j = j, .cost = 1.0 + j, .low = low, .high = high});
  return replay(s, cells, [&](size_t, int k) { return loss(k); });
}

TEST(Search, DivergedRatesAreWalkedAwayFrom) {
  const Replay r = row(SearchSettings(), 3,
                       [](int k) { return k > -3 ? kDiverged : 1 + 0.02 * (k + 4) * (k + 4); });
  EXPECT_EQ(r.result.cells[0].best, -4);
  EXPECT_EQ(r.result.cells[2].best, -4);
  EXPECT_TRUE(r.result.cells[0].certified);
}

TEST(Search, LimitsAndTheNumberOfTrialsAreKept) {
  SearchSettings s;
  s.max_trials = 3;
  const auto falling = [](int k) { return 2 + 0.1 * k; };
  Replay r = row(s, 4, falling);
  EXPECT_EQ(r.most, 3u);
  EXPECT_TRUE(r.result.cells[0].edge);
  EXPECT_FALSE(r.result.cells[0].certified);
  s.max_trials = 6;
  r = row(s, 4, falling, -2);
  for (const SearchCell& c : r.cells) EXPECT_GE(c.losses.begin()->first, -2);
  EXPECT_EQ(r.result.cells[3].best, -2);
  EXPECT_TRUE(r.result.cells[3].edge);
}

TEST(Search, EverythingFailedIsAnEndToo) {
  SearchSettings s;
  s.repeats = 1;
  Replay r = row(s, 2, [](int) { return kDiverged; });
  EXPECT_FALSE(r.result.cells[0].best);
  r = row(
      s, 2, [](int) { return std::nan(""); }, -2, 2);
  EXPECT_FALSE(r.result.cells[0].best);
}

// Of trials that fail for good, as they are told one after the other.
TEST(Search, FailedTrialsAreTriesAndTakeNothingFromTheOthers) {
  SearchSettings s;
  s.max_trials = 3;
  s.certify = SearchSettings::Certify::none;
  for (const std::set<int>& good : {std::set<int>{}, {0}, {-1}, {-2}, {1}}) {
    std::vector<SearchCell> cells = {{.i = 0, .j = 0, .cost = 1}};
    SearchResult result;
    for (result = search(s, cells); !result.next.empty(); result = search(s, cells))
      for (const Wanted& w : result.next) {
        if (good.contains(w.k)) {
          cells[0].losses[w.k] = 1.5;
        } else {
          cells[0].missing.insert(w.k);
          ++cells[0].failed;
        }
      }
    EXPECT_TRUE(result.finished);
    EXPECT_LE(cells[0].losses.size() + cells[0].missing.size(), 3u);
    EXPECT_EQ(result.cells[0].best.has_value(), !cells[0].losses.empty());
  }
}

TEST(Search, NoiseIsMeasuredAtTheBestRateOfItsCell) {
  SearchSettings s;
  s.repeats = 3;
  std::vector<SearchCell> cells = {{.i = 0, .j = 0, .cost = 1, .noise = true}};
  const Replay r = replay(s, cells, [n = 0](size_t, int k) mutable {
    return 1 + 0.01 * (k + 1) * (k + 1) + (k == -1 ? 0.001 * (n++ % 2) : 0);
  });
  EXPECT_EQ(r.result.families[0].noise_k, -1);
  EXPECT_EQ(r.cells[0].repeats.size(), 3u);
  ASSERT_TRUE(r.result.families[0].sigma);
  EXPECT_NEAR(*r.result.families[0].sigma, 0.00057735, 1e-6);
}

// What one family's rates and curvature are must not move the search of another.
TEST(Search, FamiliesAreSearchedAsIfEachWereAlone) {
  SearchSettings settings;
  settings.repeats = 2;
  const auto loss = [](bool second, const SearchCell& c, int k) {
    return second ? 3 * clean(c, k + 4, 1) : clean(c, k + 7, 1);
  };
  std::vector<Replay> alone;
  std::vector<SearchCell> both;
  for (const SearchCell& c : synthetic_cells())
    for (const size_t family : {0u, 1u}) {
      both.push_back(c);
      both.back().family = family;
      both.back().noise = c.i == static_cast<int>(family) && c.j == 0;
    }
  for (const size_t family : {0u, 1u}) {
    std::vector<SearchCell> cells;
    for (const SearchCell& c : both)
      if (c.family == family) cells.push_back(c);
    for (SearchCell& c : cells) c.family = 0;
    alone.push_back(replay(settings, cells,
                           [&, cells](size_t c, int k) { return loss(family == 1, cells[c], k); }));
  }
  const Replay together = replay(
      settings, both, [&](size_t c, int k) { return loss(both[c].family == 1, both[c], k); });
  EXPECT_EQ(together.trials, alone[0].trials + alone[1].trials);
  ASSERT_EQ(together.result.families.size(), 2u);
  for (const size_t family : {0u, 1u}) {
    EXPECT_EQ(together.result.families[family].curvature,
              alone[family].result.families[0].curvature);
    EXPECT_EQ(together.result.families[family].sigma, alone[family].result.families[0].sigma);
  }
  for (size_t c = 0; c < both.size(); ++c) {
    EXPECT_EQ(together.cells[c].losses, alone[c % 2].cells[c / 2].losses);
    EXPECT_EQ(together.result.cells[c].certified, alone[c % 2].result.cells[c / 2].certified);
    EXPECT_EQ(together.result.cells[c].frontier, alone[c % 2].result.cells[c / 2].frontier);
  }
}

// One trial at a time: what both have cost differs by a dear trial at most, until one is through.
TEST(Search, FamiliesTakeTurns) {
  std::vector<SearchCell> cells;
  for (const SearchCell& c : synthetic_cells())
    for (const size_t family : {0u, 1u}) {
      cells.push_back(c);
      cells.back().family = family;
    }
  double spent[2] = {0, 0}, dearest = 0;
  for (const SearchCell& c : cells) dearest = std::max(dearest, c.cost);
  for (SearchResult r = search({}, cells); !r.finished; r = search({}, cells)) {
    bool both[2] = {false, false};
    for (const Wanted& w : r.next) both[cells[w.cell].family] = true;
    SearchCell& c = cells[r.next[0].cell];
    c.losses[r.next[0].k] = clean(c, r.next[0].k + 7, 1);
    spent[c.family] += c.cost;
    if (both[0] && both[1]) {
      EXPECT_LE(std::abs(spent[0] - spent[1]), dearest * (1 + 1e-9));
    }
  }
  EXPECT_GT(spent[0], 0);
}

// Losses that are looked up when they are asked for lead to the same trials, cell by cell, as
// losses that are told from one round to the next; also where trials diverge or cannot be had, and
// where the search is only half through.
TEST(Search, OnePassWithLookingUpIsAllRounds) {
  for (int study = 0; study < 200; ++study) {
    SearchSettings settings;
    settings.repeats = 2;
    if (study % 3 == 1) settings.certify = SearchSettings::Certify::all;
    const auto ask = [&](size_t c, int k) {
      const auto place = static_cast<uint64_t>(c) * 100 + static_cast<uint64_t>(k + 50);
      const double u = uniform(words(77, Op::study, place, static_cast<uint32_t>(study))[0]);
      if (u < 0.05) return std::nan("");
      return clean(synthetic_cells()[c], k + 7, 1) + 0.01 * u;
    };
    // What is on the disk: all of it, or a part.
    const auto on_disk = [&](size_t c, int k) {
      return study % 2 == 0 || (c * 7 + static_cast<size_t>(k + 50)) % 5 != 0;
    };
    const auto tell = [&](const Wanted& w, std::vector<SearchCell>& cells) {
      if (!on_disk(w.cell, w.k)) return false;
      const double loss = ask(w.cell, w.k);
      if (w.repeat)
        cells[w.cell].repeats[{w.k, w.repeat}] = loss;
      else if (std::isnan(loss))
        cells[w.cell].missing.insert(w.k);
      else
        cells[w.cell].losses[w.k] = loss;
      return true;
    };
    std::vector<SearchCell> rounds = limited(synthetic_cells(), -7, 4);
    rounds[0].noise = true;
    std::vector<SearchCell> once = rounds;
    SearchResult a;
    for (bool news = true; news;) {
      a = search(settings, rounds);
      news = false;
      for (const Wanted& w : a.next) news |= tell(w, rounds);
    }
    const SearchResult b = search(settings, once, [&](const Wanted& w) { return tell(w, once); });
    const auto names = [](const SearchResult& r) {
      std::vector<std::string> list;
      for (const Wanted& w : r.next) list.push_back(fmt::format("{} {} {}", w.cell, w.k, w.repeat));
      for (const CellSearch& c : r.cells)
        list.push_back(fmt::format("{} {} {} {} {} {}", c.searched, c.best.value_or(99), c.vertex,
                                   c.certified, c.edge, c.frontier));
      const FamilySearch& f = r.families[0];
      list.push_back(fmt::format("{} {}", f.curvature, f.sigma.value_or(-1)));
      return list;
    };
    ASSERT_EQ(names(a), names(b)) << study;
    for (size_t c = 0; c < once.size(); ++c) {
      ASSERT_EQ(rounds[c].losses, once[c].losses) << study;
      ASSERT_EQ(rounds[c].missing, once[c].missing) << study;
    }
  }
}

}  // namespace
}  // namespace nfscale
