// Sums and maps over contiguous numbers, compiled for several instruction sets and chosen at run
// time. Sums are in double, in a fixed order that depends on the instruction set alone.
#pragma once

#include <cstdint>

namespace nfscale {

double row_sum(const float* x, int64_t n);
double row_sum(const double* x, int64_t n);
// sum (x - shift)^2
double row_squares(const float* x, double shift, int64_t n);
double row_squares(const double* x, double shift, int64_t n);
// sum a (x - shift)
double row_dot(const float* a, const float* x, double shift, int64_t n);
double row_dot(const double* a, const double* x, double shift, int64_t n);
// out = factor (x - shift)
void row_scale(float* out, const float* x, double factor, double shift, int64_t n);
void row_scale(double* out, const double* x, double factor, double shift, int64_t n);
// out = factor (a - a_shift) - back (x - x_shift)
void row_combine(float* out, const float* a, double factor, double a_shift, const float* x,
                 double back, double x_shift, int64_t n);
void row_combine(double* out, const double* a, double factor, double a_shift, const double* x,
                 double back, double x_shift, int64_t n);

}  // namespace nfscale
