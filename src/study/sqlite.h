// Tables as one SQLite file, for people who ask questions in SQL. An export: nothing reads it.
#pragma once

#include <vector>

#include "base/csv.h"

namespace nfscale {

// A table for each, by its name without ".csv"; columns of numbers are REAL, the others TEXT, empty
// fields NULL. Replaces the file as a whole. Exit::system where it cannot be written.
void write_sqlite(const Path& file, const std::vector<Csv>& tables);

}  // namespace nfscale
