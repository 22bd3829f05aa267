// An invented study with a known answer, for tests: best losses of every model touch the envelope
// 2.6 (C / 1e4 h)^-0.040, size and epochs grow at the same rate, the best learning rate falls with
// epochs, and a parabola with a cubic right wing stands around it.
#pragma once

#include <array>
#include <cmath>

namespace nfscale::law {

struct Model {
  const char* name;
  double params, macs, utilisation;
};
inline constexpr std::array<Model, 6> kModels = {{{"nfnet_f0", 71489284, 9.575e9, 0.33},
                                                  {"nfnet_f1", 132634256, 17.526e9, 0.35},
                                                  {"nfnet_f3", 254924200, 33.427e9, 0.37},
                                                  {"nfnet_f3+", 425082408, 57.039e9, 0.39},
                                                  {"nfnet_f7", 499504088, 65.228e9, 0.38},
                                                  {"nfnet_f7+", 832885080, 111.298e9, 0.40}}};
inline constexpr std::array<double, 6> kEpochs = {0.25, 0.5, 1, 2, 4, 8};

inline const Model& model(int i) {
  return kModels[static_cast<size_t>(i)];
}
inline double hours(int i, double epochs) {
  return 6 * model(i).macs * 4.0e9 * epochs / (137.5e12 * model(i).utilisation * 3600);
}
inline double best_loss(int i, double epochs) {
  const double touch = 0.6 * model(i).params / model(0).params;
  const double d = std::log(epochs / touch);
  return 2.6 * std::pow(hours(i, epochs) / 1e4, -0.04) * std::exp(0.006 * d * d);
}
// `drift` multiplies the fall of the optimum with epochs and size; negative: it rises.
inline double best_lr(int i, double epochs, double drift = 1) {
  const double fall = 0.9 * std::pow(model(i).params / model(0).params, 0.28) *
                      std::log2(1 + epochs / 4) / std::log2(3);
  return 1.6 * std::exp2(-drift * fall);
}
// Without noise; infinite where the trial diverges.
inline double loss(int i, double epochs, double lr, double drift = 1) {
  const double x = std::log2(lr / best_lr(i, epochs, drift));
  if (x > 2.3) return INFINITY;
  return best_loss(i, epochs) + (x < 0 ? 0.010 * x * x : 0.016 * x * x + 0.004 * x * x * x);
}

}  // namespace nfscale::law
