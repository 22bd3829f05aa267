// The formulas of laws as data: how a row is predicted from internal coordinates, where minimisers
// start, and what the coordinates are called outside.
#pragma once

#include <string>
#include <vector>

#include "fit/dual.h"
#include "fit/law.h"

namespace nfscale {

struct Parameter {
  std::string name;
  bool logarithm = false;  // the internal coordinate is ln of it
  // Bounds of the internal coordinate; infinite where it is free.
  double low = -INFINITY, high = INFINITY;
  // Other places to begin from, for a coordinate that can run to where it changes nothing; may be
  // null.
  Vector (*places)(const FitTable&) = nullptr;
};

struct Formula {
  std::string name;
  std::vector<std::string> columns;  // the last is predicted
  std::vector<Parameter> parameters;
  // ln of what is predicted. `row` as in the table; `context` as made of the table.
  double (*value)(const double* theta, const double* row, const Vector& context);
  Dual (*dual)(const Dual* theta, const double* row, const Vector& context);
  Vector (*context)(const FitTable&);
  std::vector<Vector> (*starts)(const FitTable&, const Vector& context);
  // The parameters, where they are not the coordinates or exponentials of them; may be null, and
  // then a parameter can be given.
  Vector (*natural)(const Vector& theta, const Vector& context) = nullptr;
  // What follows from the parameters, and its names.
  std::vector<std::string> derived = {};
  Vector (*derive)(const Vector& parameters) = nullptr;
  // Intervals by the profile of the squares (laws of one variable), else by resampling.
  bool profile = false;
};

const std::vector<Formula>& formulas();
// `joint` with alpha = beta, for the first stage of `repeat`; parameters a, b, e, alpha.
const Formula& tied_formula();
// `power+floor` by ln y at a place (context: its ln x), exponent and the logit of the floor's share
// there: for the profile of a forecast.
const Formula& forecast_formula();

}  // namespace nfscale
