// Where small labels stand beside the marks of a figure so that they hide neither marks nor each
// other; one that has no place is left out.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace nfscale {

struct Spot {
  double x = 0, y = 0;
};

// A mark at a share of the plot's width and height, y upwards. Without a text it is only kept
// clear.
struct LabelledMark {
  std::string id, text;
  Spot at;
  bool narrow = true;  // its text is shown in a narrow page too
};

// An expression for the place of a mark's label, or -1: datum[field] is the mark's id. Labels are
// placed for a wide and for a narrow page, and off the lines where there is a choice.
std::string label_places(const std::string& field, const std::vector<LabelledMark>& marks,
                         const std::vector<std::vector<Spot>>& lines);

// Properties of a text mark that stands at the place that `expression` gives.
Json label_mark(const std::string& expression);

}  // namespace nfscale
