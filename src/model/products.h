// Small matrix products: libtorch's (at::native::cpublas::brgemm, with oneDNN's kernels underneath,
// AMX and AVX-512 among them), and what stands around them.
#pragma once

#include <ATen/native/CPUBlas.h>

#include "kernels/types.h"
#include "model/pch.h"

namespace nfscale {

// Whether products of this type (float or bfloat16) run on this machine.
bool has_products(at::ScalarType type);

// Bf16 in the kernels is at::BFloat16 in libtorch.
template <class T>
using TorchType = std::conditional_t<std::is_same_v<T, Bf16>, at::BFloat16, float>;
template <class T>
constexpr at::ScalarType kType = std::is_same_v<T, Bf16> ? at::kBFloat16 : at::kFloat;
// Activations of a tensor, in the kernels' type.
template <class T>
const T* data(const at::Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* mutable_data(const at::Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

// work(T{}) with the kernels' type of the activations x.
template <class Work>
void for_type(const at::Tensor& x, const Work& work) {
  if (x.scalar_type() == at::kFloat)
    work(float{});
  else
    work(Bf16{});
}

// Products of bfloat16 read pairs of rows of b beside each other.
template <class T>
constexpr int64_t kPair = std::is_same_v<T, Bf16> ? 2 : 1;

inline int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

// c [m, n] = a [m, k] b [k, n] (+ c)
template <class T>
void product(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
             float* c, int64_t ldc, bool add) {
  at::native::cpublas::brgemm(m, n, k, lda, ldb, ldc, add, reinterpret_cast<const TorchType<T>*>(a),
                              reinterpret_cast<const TorchType<T>*>(b), c, kPair<T> == 2);
}
// Behind the products of a thread.
template <class T>
void end_products() {
  at::native::cpublas::brgemm_release(kPair<T> == 2);
}

}  // namespace nfscale
