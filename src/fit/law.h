// What every fit is: the laws' common input and result, and the document of `nfscale fit`.
//
// Laws are fitted to ln y: the summed Huber function of r = ln predicted - ln observed, r^2/2 for
// |r| <= delta and delta (|r| - delta/2) beyond (Hoffmann et al., arXiv 2203.15556, A.3, who
// average; the sum does not stop optimisers early). delta = infinity is least squares.
#pragma once

#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/csv.h"
#include "base/json.h"
#include "fit/numeric.h"

namespace nfscale {

// Rows of a table that a law is fitted to; every number is positive and finite. Sorted by their
// values, so that the order in the file changes no bit of a result.
struct FitTable {
  std::vector<std::pair<std::string, std::string>> columns;   // the law's name, the table's name
  std::vector<Vector> rows;                                   // in the order of `columns`
  std::vector<std::string> names;                             // of the rows, for messages
  std::vector<std::pair<std::string, std::string>> excluded;  // row and why
  size_t total = 0;                                           // rows of the table
};

struct Bounds {
  double low = 0, high = 0;  // infinite where the interval is open there
};

struct FitOptions {
  double huber = 1e-3;  // delta; infinity: least squares
  int draws = 1000;     // of the bootstrap; 0: no interval that needs one
  uint64_t seed = 0;
  double level = 0.95;
  std::map<std::string, double> fix;  // parameters that are given
  Vector at;                          // of x: where to predict (power laws)
};

struct LawFit {
  std::string law;
  std::vector<std::pair<std::string, double>> params;
  double objective = 0;
  std::string objective_name = "sum of Huber(ln predicted - ln observed)";
  std::string interval_method;
  std::map<std::string, Bounds> interval;  // empty where none was asked for
  int starts = 0, reached = 0;             // within 1 % of the least
  Vector residual;                         // of the rows used
  struct Left {
    std::string row;
    double z = 0;
    std::map<std::string, double> shift;  // of the parameters, without the row
  };
  std::vector<Left> leave_one_out;  // the rows that move it most
  std::vector<std::string> warnings;
  struct Forecast {
    double x = 0, y = 0;
    std::optional<Bounds> interval;
  };
  std::vector<Forecast> forecasts;
  Json more = Json::object();  // what only this law has
  Vector theta, context;       // internal coordinates, and constants of the table: for predictions

  double param(std::string_view name) const;
};

// How well a fit predicts rows that it has not seen.
struct Score {
  double rms = 0, bias = 0;  // of ln predicted - ln observed
  size_t rows = 0;
};

}  // namespace nfscale
