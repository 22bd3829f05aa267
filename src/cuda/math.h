// The arithmetic of the kernels for GPUs, by number and by row of weights. The same functions run
// on a CPU in math_test.cpp.
#pragma once

#include <cmath>

#include "kernels/rows.h"

#ifdef __CUDACC__
#define NFSCALE_BOTH __host__ __device__ inline
#else
#define NFSCALE_BOTH inline
#endif

namespace nfscale::cuda {

// ---- activations
// What an activation and its slope are made of: y = x * share.
struct Gelu {
  float share, slope;
};

// Not fminf and fmaxf, which make a number of NaN.
NFSCALE_BOTH float bounded(float x, float limit) {
  return x < -limit ? -limit : x > limit ? limit : x;
}

// 0.5 (1 + tanh(u / 2)) = 1 / (1 + exp(-u)), u = 2 sqrt(2 / pi) (x + 0.044715 x^3): without the
// cancellation of 1 + tanh. Beyond 10 the share is 0 or 1 in float.
NFSCALE_BOTH Gelu gelu_tanh(float x) {
  constexpr float kA = 1.5957691216f, kB = 0.0713548163f;
  const float c = bounded(x, 10), squared = c * c;
  const float e = expf(-c * (kA + kB * squared)), share = 1 / (1 + e);
  // e share is 1 - share without its cancellation.
  return {share, share + c * (kA + 3 * kB * squared) * (share * (e * share))};
}

// The normal distribution function and x times its density, whose bell is 0 in float beyond 12.
NFSCALE_BOTH Gelu gelu_erf(float x) {
  const float c = bounded(x, 12), share = 0.5f * erfcf(-0.70710678f * c);
  return {share, share + c * 0.39894228f * expf(-0.5f * c * c)};
}

// ---- standardised weights
// Scaled weight standardisation of a row of n weights (B21 section 4.1; both programs' epsilons):
// value = factor * gain * scale * (w - mean).
struct Standardisation {
  double mean, scale;
  bool constant;  // deepmind's maximum took the epsilon: no gradient goes through the variance
};
NFSCALE_BOTH Standardisation standardisation(const Sums& w, double n, bool timm) {
  const double mean = w.sum / n, rest = w.squares - n * mean * mean;
  // NaN stays NaN.
  const double centred = rest < 0 ? 0 : rest;
  if (timm) return {mean, 1 / sqrt(centred + 1e-5 * n), false};
  return {mean, 1 / sqrt(centred < 1e-4 ? 1e-4 : centred), centred < 1e-4};
}

// The gradient of a row, with c = w - mean, s the scale and k = factor * gain:
//   d gain = factor s sum(d value c)
//   d w = k s (d value - mean(d value)) - k s^3 sum(d value c) c
// the last part only where s depends on the weights.
struct RowGradient {
  double gain;
  float scale, d_mean, back, mean;

  NFSCALE_BOTH float weight(float d_value, float w) const {
    return scale * (d_value - d_mean) - back * (w - mean);
  }
};
// `along` is the sum of d_value * w, `sum` that of d_value.
NFSCALE_BOTH RowGradient row_gradient(const Sums& w, double along, double sum, double n, bool timm,
                                      double factor, double gain) {
  const Standardisation s = standardisation(w, n, timm);
  const double centred = along - s.mean * sum, scale = factor * s.scale * gain;
  return {factor * centred * s.scale, static_cast<float>(scale), static_cast<float>(sum / n),
          static_cast<float>(s.constant ? 0 : centred * s.scale * s.scale * scale),
          static_cast<float>(s.mean)};
}

// ---- the update
// By how much a unit's gradient is clipped, given the squares of both norms: limit / norm where the
// norm is above the limit, else 1; a norm that is not a number stays unclipped.
NFSCALE_BOTH double clip_factor(double weight_squares, double gradient_squares, double threshold,
                                double eps) {
  const double own = sqrt(weight_squares), norm = sqrt(gradient_squares);
  const double limit = threshold * (own > eps ? own : eps);
  return norm > limit ? limit / (norm > 1e-6 ? norm : 1e-6) : 1;
}

// SGD of one number, as kernels/rows.h has it.
struct Update {
  float factor, decay, momentum, rate, keep, give;
  bool nesterov;

  NFSCALE_BOTH Update(double clip, const SgdNumbers& n)
      : factor(static_cast<float>(clip)),
        decay(static_cast<float>(n.decay)),
        momentum(static_cast<float>(n.momentum)),
        rate(static_cast<float>(n.rate)),
        keep(static_cast<float>(n.ema_keep)),
        give(static_cast<float>(1 - n.ema_keep)),
        nesterov(n.nesterov) {}

  // Returns the new weight.
  NFSCALE_BOTH float step(float weight, float gradient, float& velocity) const {
    const float g = factor * gradient + decay * weight;
    velocity = momentum * velocity + g;
    return weight - rate * (nesterov ? g + momentum * velocity : velocity);
  }
  NFSCALE_BOTH float average(float before, float weight) const {
    return keep * before + give * weight;
  }
};

}  // namespace nfscale::cuda
