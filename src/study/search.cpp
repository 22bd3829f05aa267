#include "study/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace nfscale {
namespace {

// What the search knows of a cell: only trials that it asked for itself, so that the way to a
// decision does not depend on what else is there.
struct Curve {
  std::map<int, double> got;

  bool any_finite() const {
    return std::any_of(got.begin(), got.end(),
                       [](const auto& g) { return std::isfinite(g.second); });
  }
  int best() const {
    return std::min_element(got.begin(), got.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }
  double at(int k) const {
    const auto found = got.find(k);
    return found == got.end() ? kDiverged : found->second;
  }
  // c of the header; nothing where a neighbour is missing or the three points are not convex.
  std::optional<double> own_curvature() const {
    const int b = best();
    const double c = (at(b - 1) + at(b + 1)) / 2 - at(b);
    if (std::isfinite(c) && c > 0) return c;
    return std::nullopt;
  }
  double vertex(double a) const {
    const int b = best();
    const double l = at(b - 1), m = at(b), h = at(b + 1);
    if (std::isfinite(l) && std::isfinite(h)) {
      const auto c = own_curvature();
      return b + (c ? (l - h) / (4 * *c) : 0);
    }
    if (std::isfinite(l)) return std::clamp(b - 0.5 - (m - l) / (2 * a), b - 0.5, b + 0.5);
    if (std::isfinite(h)) return std::clamp(b + 0.5 - (h - m) / (2 * a), b - 0.5, b + 0.5);
    return b;
  }
};

// Of one family; adds what it finds to the result of all.
class Search {
 public:
  Search(const SearchSettings& settings, const std::vector<SearchCell>& cells, size_t family,
         const Learn& learn, SearchResult& result)
      : s_(settings),
        cells_(cells),
        learn_(learn),
        curves_(cells.size()),
        edge_(cells.size()),
        result_(result),
        family_(result.families[family]) {
    for (size_t c = 0; c < cells.size(); ++c) {
      if (cells[c].family != family) continue;
      own_.push_back(c);
      place_[{cells[c].i, cells[c].j}] = c;
    }
  }

  void run() {
    family_.curvature = s_.curvature;
    bool whole = true;  // every wave so far is through
    for (size_t begin = 0; begin < own_.size() && whole;) {
      size_t end = begin;
      for (; end < own_.size() && wave(own_[end]) == wave(own_[begin]); ++end) {
        const size_t c = own_[end];
        result_.cells[c].searched = search_whole(c);
        whole &= result_.cells[c].searched;
        if (cells_[c].noise && result_.cells[c].searched) noise(c);
      }
      if (whole) family_.curvature = pooled(end);
      begin = end;
    }
    count_drift();
    if (whole) {
      certify();
      family_.curvature = pooled(own_.size());
    }
    for (const size_t c : own_) describe(c);
  }

 private:
  int wave(size_t c) const { return cells_[c].i + cells_[c].j; }
  bool exists(size_t c, int k) const {
    const SearchCell& cell = cells_[c];
    return (!cell.low || k >= *cell.low) && (!cell.high || k <= *cell.high) &&
           !cell.missing.contains(k);
  }
  bool full(size_t c) const {
    return static_cast<int>(curves_[c].got.size()) + cells_[c].failed >= s_.max_trials;
  }

  double pooled(size_t end) const {
    double sum = 4 * s_.curvature;
    int n = 4;
    for (size_t at = 0; at < end; ++at) {
      const size_t c = own_[at];
      if (!curves_[c].any_finite()) continue;
      if (const auto own = curves_[c].own_curvature()) {
        sum += *own;
        ++n;
      }
    }
    return sum / n;
  }

  // True where the loss is known now; else the trial is wanted, or has turned out to be missing.
  bool ask(size_t c, int k, std::string why) {
    if (curves_[c].got.contains(k)) return true;
    Wanted wanted = {c, k, 0, std::move(why)};
    auto known = cells_[c].losses.find(k);
    if (known == cells_[c].losses.end() && learn_ && learn_(wanted)) {
      known = cells_[c].losses.find(k);
      if (known == cells_[c].losses.end()) {
        NFSCALE_CHECK(cells_[c].missing.contains(k));
        news_ = true;
        return false;
      }
    }
    if (known == cells_[c].losses.end()) {
      result_.next.push_back(std::move(wanted));
      return false;
    }
    curves_[c].got[k] = known->second;
    return true;
  }

  // A trial that turned out to be missing was not one to count on: the cell begins anew.
  bool search_whole(size_t c) {
    const size_t wanted = result_.next.size();
    for (;;) {
      news_ = false;
      const bool searched = search_cell(c);
      if (!news_) return searched;
      curves_[c].got.clear();
      edge_[c] = false;
      result_.next.resize(wanted);
    }
  }

  // The neighbour at (i, j) if it has a finite loss.
  const Curve* neighbour(int i, int j) const {
    const auto found = place_.find({i, j});
    if (found != place_.end() && curves_[found->second].any_finite())
      return &curves_[found->second];
    return nullptr;
  }

  // Where the optimum of the cell is expected; nothing for the first cell.
  std::optional<double> predict(size_t c, double a) const {
    const int i = cells_[c].i, j = cells_[c].j;
    const Curve *up = neighbour(i - 1, j), *left = neighbour(i, j - 1);
    const Curve* diagonal = neighbour(i - 1, j - 1);
    if (!up && !left) return nearest(c, a);
    double p;
    if (up && left) {
      const double u = up->vertex(a), l = left->vertex(a);
      p = diagonal ? u + l - diagonal->vertex(a) : (u + l) / 2;
    } else {
      const Curve* one = up ? up : left;
      const Curve* before = up ? neighbour(i - 2, j) : neighbour(i, j - 2);
      p = one->vertex(a);
      if (before) p += (one->vertex(a) - before->vertex(a)) / 2;
    }
    if (s_.prior == SearchSettings::Prior::down)
      for (const Curve* one : {up, left})
        if (one) p = std::min(p, one->vertex(a));
    return p;
  }

  // With holes in the grid: the vertex of the nearest cell of an earlier wave.
  std::optional<double> nearest(size_t c, double a) const {
    std::optional<double> v;
    int least = 1 << 20;
    for (const size_t o : own_) {
      if (wave(o) >= wave(c)) break;
      const int distance =
          std::abs(cells_[o].i - cells_[c].i) + std::abs(cells_[o].j - cells_[c].j);
      if (curves_[o].any_finite() && distance < least) {
        least = distance;
        v = curves_[o].vertex(a);
      }
    }
    return v;
  }

  bool search_cell(size_t c) {
    if (cells_[c].failed >= s_.max_trials) {  // what else there is counts, nothing more is tried
      curves_[c].got = cells_[c].losses;
      edge_[c] = !curves_[c].got.empty();
      return true;
    }
    const double a = family_.curvature;
    // Without a prior every cell is searched as the first one is.
    const std::optional<double> predicted =
        s_.prior == SearchSettings::Prior::none ? std::nullopt : predict(c, a);
    const bool first = !predicted;
    const double p = predicted.value_or(0);
    const std::string why = first ? "first cell: start and one step below"
                                  : fmt::format("optimum predicted at {:.2f}", p);
    int k1 = static_cast<int>(std::floor(p + 0.5));
    bool found = false;
    for (int d = 0; d < 64 && !found; ++d)
      for (const int k : {k1 - d, k1 + d})
        if (!found && exists(c, k)) {
          found = true;
          k1 = k;
          break;
        }
    if (!found) return true;  // no rate of this cell can be had
    const double side = s_.prior == SearchSettings::Prior::down ? k1 + 0.25 : k1 + 1e-12;
    int k2 = p <= side ? k1 - 1 : k1 + 1;
    if (!exists(c, k2)) k2 = 2 * k1 - k2;
    bool known = ask(c, k1, why);
    if (cells_[c].failed + 1 < s_.max_trials && exists(c, k2)) known &= ask(c, k2, why);
    if (!known) return false;
    return walk(c, first, a);
  }

  // More trials until the vertex lies in the surroundings of what was tried.
  bool walk(size_t c, bool first, double a) {
    const Curve& curve = curves_[c];
    for (;;) {
      const int low = curve.got.begin()->first, high = curve.got.rbegin()->first;
      const auto finite = std::count_if(curve.got.begin(), curve.got.end(),
                                        [](const auto& g) { return std::isfinite(g.second); });
      const int b = curve.best();
      std::optional<int> next;
      std::string why;
      if (finite < 2) {
        next = low - 1;
        why = "fewer than two finite losses: lower";
      } else if (first && (b == low || b == high)) {
        next = b == low ? low - 1 : high + 1;
        why = "first cell: until both neighbours of the best are worse";
      } else if (!(curve.got.contains(b - 1) && curve.got.contains(b + 1))) {
        const int l = curve.got.contains(b - 1) ? b - 1 : b;
        if (curve.got.contains(l + 1)) {
          const double rise = curve.at(l + 1) - curve.at(l);
          const double v = std::isfinite(rise) ? l + 0.5 - rise / (2 * a) : -kDiverged;
          if (v < l - 0.5 - s_.margin)
            next = l - 1;
          else if (v > l + 1.5 + s_.margin)
            next = l + 2;
          why = fmt::format("vertex at {:.2f}, outside the pair {} and {}", v, l, l + 1);
        }
      }
      if (!next || curve.got.contains(*next)) return true;
      if (full(c) || !exists(c, *next)) {
        edge_[c] = true;
        return true;
      }
      if (!ask(c, *next, std::move(why))) return false;
    }
  }

  void noise(size_t c) {
    if (!curves_[c].any_finite()) return;
    const int k = curves_[c].best();
    family_.noise_k = k;
    std::vector<double> losses = {curves_[c].at(k)};
    std::vector<Wanted> wanted;
    for (int r = 1; r <= s_.repeats; ++r) {
      const Wanted repeat = {c, k, r, "noise: the same with another seed"};
      auto known = cells_[c].repeats.find({k, r});
      if (known == cells_[c].repeats.end() && learn_ && learn_(repeat))
        known = cells_[c].repeats.find({k, r});
      if (known == cells_[c].repeats.end())
        wanted.push_back(repeat);
      else if (std::isfinite(known->second))
        losses.push_back(known->second);
    }
    // They come first: everything else is cheaper to judge once sigma is known.
    result_.next.insert(result_.next.begin(), wanted.begin(), wanted.end());
    if (!wanted.empty() || losses.size() < 2) return;
    double mean = 0, square = 0;
    for (const double l : losses) mean += l / static_cast<double>(losses.size());
    for (const double l : losses) square += (l - mean) * (l - mean);
    family_.sigma = std::sqrt(square / static_cast<double>(losses.size() - 1));
  }

  void count_drift() {
    for (const size_t c : own_) {
      if (!result_.cells[c].searched || !curves_[c].any_finite()) continue;
      for (const Curve* before :
           {neighbour(cells_[c].i - 1, cells_[c].j), neighbour(cells_[c].i, cells_[c].j - 1)}) {
        if (!before) continue;
        const double d = curves_[c].vertex(family_.curvature) - before->vertex(family_.curvature);
        family_.rose += d > 0.05;
        family_.fell += d < -0.05;
      }
    }
  }

  std::vector<size_t> frontier() const {
    std::vector<size_t> order;
    for (const size_t c : own_)
      if (curves_[c].any_finite()) order.push_back(c);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return cells_[a].cost < cells_[b].cost; });
    std::vector<size_t> front;
    double low = kDiverged;
    for (const size_t c : order) {
      const double loss = curves_[c].at(curves_[c].best());
      if (loss <= low * (1 + s_.tolerance)) front.push_back(c);
      low = std::min(low, loss);
    }
    return front;
  }

  // In rounds: all that the present frontier lacks, then again with the new losses. The dearest
  // cells come first, so that no long trial is left to run alone at the end.
  void certify() {
    for (;;) {
      std::vector<size_t> front = frontier();
      for (const size_t c : front) result_.cells[c].frontier = true;
      if (s_.certify == SearchSettings::Certify::all) {
        front.clear();
        for (const size_t c : own_)
          if (curves_[c].any_finite()) front.push_back(c);
        std::stable_sort(front.begin(), front.end(),
                         [&](size_t a, size_t b) { return cells_[a].cost < cells_[b].cost; });
      }
      if (s_.certify == SearchSettings::Certify::none) return;
      std::reverse(front.begin(), front.end());
      bool asked = false, known = true;
      for (const size_t c : front) {
        const int b = curves_[c].best();
        for (const int k : {b - 1, b + 1}) {
          if (curves_[c].got.contains(k)) continue;
          if (!exists(c, k) || full(c)) {
            edge_[c] = true;
            continue;
          }
          const bool has = ask(c, k, "certification: both neighbours of the best");
          if (!has && !exists(c, k)) {
            edge_[c] = true;
            continue;
          }
          asked = true;
          known &= has;
        }
      }
      if (!asked || !known) return;
      for (const size_t c : own_) result_.cells[c].frontier = false;
    }
  }

  void describe(size_t c) {
    CellSearch& out = result_.cells[c];
    out.sigma = family_.sigma;
    const Curve& curve = curves_[c];
    for (const auto& [k, loss] : curve.got) out.tried.insert(k);
    out.edge = edge_[c];
    if (!curve.any_finite()) return;
    const int b = curve.best();
    const auto own = curve.own_curvature();
    out.best = b;
    out.loss = curve.at(b);
    out.own_curvature = own.has_value();
    out.curvature = own.value_or(family_.curvature);
    out.vertex = curve.vertex(family_.curvature);
    const double d = b - out.vertex;
    out.loss_vertex = out.loss - out.curvature * d * d;
    out.low = curve.got.contains(b - 1);
    out.high = curve.got.contains(b + 1);
    out.certified = out.searched && out.low && out.high;
    if (!family_.sigma) return;
    double least = 2 * *family_.sigma * std::sqrt(2.0);
    for (const auto& [k, loss] : curve.got)
      if (k != b && loss - out.loss < least) {
        least = loss - out.loss;
        out.tie = k;
      }
  }

  const SearchSettings& s_;
  const std::vector<SearchCell>& cells_;  // `learn_` adds to them
  const Learn& learn_;
  bool news_ = false;        // a trial has turned out to be missing
  std::vector<size_t> own_;  // places of the cells of this family
  std::vector<Curve> curves_;
  std::map<std::pair<int, int>, size_t> place_;  // by i, j
  std::vector<bool> edge_;
  SearchResult& result_;
  FamilySearch& family_;
};

}  // namespace

SearchResult search(const SearchSettings& settings, const std::vector<SearchCell>& cells,
                    const Learn& learn) {
  SearchResult result;
  result.cells.resize(cells.size());
  for (const SearchCell& cell : cells)
    result.families.resize(std::max(result.families.size(), cell.family + 1));
  // Families take turns, the one that has cost least so far first: a machine that becomes slower
  // does not slow one of them alone.
  std::vector<std::pair<double, std::vector<Wanted>>> wanted(result.families.size());
  for (size_t f = 0; f < wanted.size(); ++f) {
    Search(settings, cells, f, learn, result).run();
    wanted[f].second = std::exchange(result.next, {});
  }
  for (const SearchCell& c : cells)
    wanted[c.family].first +=
        c.cost * static_cast<double>(c.losses.size() + c.repeats.size() + c.missing.size());
  std::stable_sort(wanted.begin(), wanted.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [spent, list] : wanted)
    result.next.insert(result.next.end(), list.begin(), list.end());
  result.finished = result.next.empty();
  return result;
}

SearchResult search(const SearchSettings& settings, const std::vector<SearchCell>& cells) {
  return search(settings, cells, Learn());
}

}  // namespace nfscale
