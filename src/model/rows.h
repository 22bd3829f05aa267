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

// The settings of an update that are one number for a whole parameter.
struct SgdNumbers {
  double decay = 0, momentum = 0.9, rate = 0, ema_keep = 0;
  bool nesterov = true;
};
// g' = factor g + decay p; m = momentum m + g'; p -= rate (g' + momentum m), or rate m without
// Nesterov; average = ema_keep average + (1 - ema_keep) p where there is one.
void row_sgd(float* p, float* m, float* average, const float* g, double factor,
             const SgdNumbers& numbers, int64_t n);
void row_sgd(double* p, double* m, double* average, const double* g, double factor,
             const SgdNumbers& numbers, int64_t n);

}  // namespace nfscale
