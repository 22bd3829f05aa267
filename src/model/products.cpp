#include "model/products.h"

namespace nfscale {
namespace {

template <class T>
bool try_products() {
  std::vector<T> a(16 * 32), b(16 * 32);
  std::vector<float> c(16 * 16, 1.0f);
  try {
    product<T>(16, 16, 32, a.data(), 32, b.data(), 16, c.data(), 16, false);
    end_products<T>();
  } catch (const std::exception&) {
    return false;
  }
  return c == std::vector<float>(16 * 16, 0.0f);
}

}  // namespace

bool has_products(at::ScalarType type) {
  static const bool f32 = try_products<float>(), bf16 = try_products<Bf16>();
  return type == at::kFloat ? f32 : type == at::kBFloat16 && bf16;
}

}  // namespace nfscale
