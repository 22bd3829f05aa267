#include "study/figure_labels.h"

#include <cmath>

#include "base/error.h"

namespace nfscale {
namespace {

constexpr double kFont = 10, kCharacter = 6, kMark = 6;

struct LabelPlace {
  double dx, dy;
  const char* align;
};
// The first ones are preferred.
constexpr LabelPlace kPlaces[] = {{8, -8, "left"},   {-8, 10, "right"}, {0, -14, "center"},
                                  {10, 0, "left"},   {0, 15, "center"}, {-10, 0, "right"},
                                  {8, 10, "left"},   {-8, -8, "right"}, {15, -14, "left"},
                                  {-15, 14, "right"}};

struct Box {
  double left, top, right, bottom;
  bool holds(const Spot& s, double room = 0) const {
    return s.x > left - room && s.x < right + room && s.y > top - room && s.y < bottom + room;
  }
  bool meets(const Box& b) const {
    return left < b.right && b.left < right && top < b.bottom && b.top < bottom;
  }
};

Box box_at(const Spot& mark, const std::string& text, const LabelPlace& place) {
  const double width = kCharacter * static_cast<double>(text.size());
  const double x = mark.x + place.dx, y = mark.y + place.dy;
  const double left = place.align[0] == 'l' ? x : place.align[0] == 'r' ? x - width : x - width / 2;
  return {left, y - kFont / 2, left + width, y + kFont / 2};
}

// Spots of lines under a label; infinite where it would hide a mark or another label, or be cut.
double cost(const Box& box, double width, const std::vector<Spot>& marks,
            const std::vector<Spot>& lines, const std::vector<Box>& taken) {
  if (box.right > width) return INFINITY;
  for (const Spot& mark : marks)
    if (box.holds(mark, kMark)) return INFINITY;
  for (const Box& other : taken)
    if (box.meets(other)) return INFINITY;
  double under = 0;
  for (const Spot& spot : lines) under += box.holds(spot);
  return under;
}

// A spot every four pixels of a line, its points in pixels.
void add_line(const std::vector<Spot>& line, std::vector<Spot>& spots) {
  for (size_t i = 0; i + 1 < line.size(); ++i) {
    const Spot &from = line[i], &to = line[i + 1];
    const double steps = std::ceil(std::hypot(to.x - from.x, to.y - from.y) / 4);
    for (double k = 0; k < steps; ++k)
      spots.push_back({from.x + (to.x - from.x) * k / steps, from.y + (to.y - from.y) * k / steps});
  }
}

int best_place(const Spot& mark, const std::string& text, double width,
               const std::vector<Spot>& marks, const std::vector<Spot>& lines,
               const std::vector<Box>& taken) {
  double least = INFINITY;
  int best = -1, place = 0;
  for (const LabelPlace& p : kPlaces) {
    // Half a spot for each step down the list: a little crossing is better than a far place.
    const double here = cost(box_at(mark, text, p), width, marks, lines, taken) + 0.5 * place;
    if (here < least) least = here, best = place;
    ++place;
  }
  return best;
}

// In a plot of that many pixels.
std::vector<int> places_in(const std::vector<LabelledMark>& marks,
                           const std::vector<std::vector<Spot>>& lines, const Spot& size,
                           bool narrow) {
  const auto pixels = [&](const Spot& s) { return Spot{s.x * size.x, (1 - s.y) * size.y}; };
  std::vector<Spot> at, spots;
  for (const LabelledMark& m : marks) at.push_back(pixels(m.at));
  for (const std::vector<Spot>& line : lines) {
    std::vector<Spot> points;
    for (const Spot& s : line) points.push_back(pixels(s));
    add_line(points, spots);
  }
  std::vector<int> places;
  std::vector<Box> taken;
  for (size_t i = 0; i < marks.size(); ++i) {
    const bool shown = !marks[i].text.empty() && (!narrow || marks[i].narrow);
    places.push_back(shown ? best_place(at[i], marks[i].text, size.x, at, spots, taken) : -1);
    if (places[i] >= 0) taken.push_back(box_at(at[i], marks[i].text, kPlaces[places[i]]));
  }
  return places;
}

}  // namespace

std::string label_places(const std::string& field, const std::vector<LabelledMark>& marks,
                         const std::vector<std::vector<Spot>>& lines) {
  std::vector<std::string> ids;
  for (const LabelledMark& m : marks) ids.push_back(m.id);
  return fmt::format("(page_width < 800 ? {} : {})[indexof({}, datum.{})]",
                     Json(places_in(marks, lines, {290, 400}, true)).dump(),
                     Json(places_in(marks, lines, {760, 400}, false)).dump(), Json(ids).dump(),
                     field);
}

Json label_mark(const std::string& expression) {
  Json dx = Json::array(), dy = Json::array(), align = Json::array();
  for (const LabelPlace& p : kPlaces) {
    dx.push(p.dx);
    dy.push(p.dy);
    align.push(p.align);
  }
  const auto choice = [&](const Json& of) {
    return Json::object({{"expr", fmt::format("{}[{}]", of.dump(), expression)}});
  };
  return Json::object({{"type", "text"},
                       {"fontSize", kFont},
                       {"dx", choice(dx)},
                       {"dy", choice(dy)},
                       {"align", choice(align)}});
}

}  // namespace nfscale
