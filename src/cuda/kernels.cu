#include "cuda/kernels.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/math.h"

namespace nfscale::cuda {
namespace {

constexpr int kThreads = 256;

void check_launch(const char* kernel) {
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA: ") + kernel + ": " + cudaGetErrorString(error));
}

__device__ float to_float(float x) {
  return x;
}
__device__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
template <class T>
__device__ T from_float(float x) {
  if constexpr (std::is_same_v<T, float>)
    return x;
  else
    return __float2bfloat16_rn(x);
}

// work(T*) with a null pointer of the type.
template <class Work>
void for_type(Type type, const Work& work) {
  if (type == Type::f32)
    work(static_cast<float*>(nullptr));
  else
    work(static_cast<__nv_bfloat16*>(nullptr));
}

// ---------------------------------------------------------------- activations
// As many numbers as a thread reads at once.
template <class T>
struct alignas(16) Vector {
  static constexpr int kCount = 16 / sizeof(T);
  T at[kCount];
};

template <Activation kAct>
__device__ Gelu gelu(float x) {
  if constexpr (kAct == Activation::gelu_tanh)
    return gelu_tanh(x);
  else
    return gelu_erf(x);
}

template <class T, Activation kAct>
__device__ T activated(T x) {
  const float v = to_float(x);
  return from_float<T>(v * gelu<kAct>(v).share);
}

template <class T, Activation kAct>
__device__ T activated_backward(T d_y, T x) {
  return from_float<T>(to_float(d_y) * gelu<kAct>(to_float(x)).slope);
}

// The first `vectors` vectors, then the numbers behind them.
template <class T, Activation kAct>
__global__ void gelu_forward_kernel(const T* x, T* y, int64_t vectors, int64_t n) {
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = first; i < vectors; i += step) {
    Vector<T> v = reinterpret_cast<const Vector<T>*>(x)[i];
#pragma unroll
    for (T& number : v.at) number = activated<T, kAct>(number);
    reinterpret_cast<Vector<T>*>(y)[i] = v;
  }
  for (int64_t i = vectors * Vector<T>::kCount + first; i < n; i += step)
    y[i] = activated<T, kAct>(x[i]);
}

template <class T, Activation kAct>
__global__ void gelu_backward_kernel(const T* d_y, const T* x, T* d_x, int64_t vectors, int64_t n) {
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = first; i < vectors; i += step) {
    const Vector<T> v = reinterpret_cast<const Vector<T>*>(x)[i];
    Vector<T> d = reinterpret_cast<const Vector<T>*>(d_y)[i];
#pragma unroll
    for (int k = 0; k < Vector<T>::kCount; ++k)
      d.at[k] = activated_backward<T, kAct>(d.at[k], v.at[k]);
    reinterpret_cast<Vector<T>*>(d_x)[i] = d;
  }
  for (int64_t i = vectors * Vector<T>::kCount + first; i < n; i += step)
    d_x[i] = activated_backward<T, kAct>(d_y[i], x[i]);
}

// How n numbers are shared out; pointers that are not aligned are read number by number.
struct Share {
  int64_t vectors;
  unsigned blocks;
};
template <class T, class... Pointers>
Share share(int64_t n, Pointers... pointers) {
  const bool aligned = ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
  const int64_t vectors = aligned ? n / Vector<T>::kCount : 0;
  const int64_t tasks = std::max(vectors, n - vectors * Vector<T>::kCount);
  const int64_t blocks = (tasks + kThreads - 1) / kThreads;
  return {vectors, static_cast<unsigned>(std::min<int64_t>(blocks, 1 << 20))};
}

// ---------------------------------------------------------------- rows of weights
// Sums over the threads of a block, in a fixed order; every thread gets them.
template <int kCount>
__device__ void block_sums(double (&sums)[kCount]) {
  __shared__ double of_warps[kCount][32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (double& sum : sums)
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(~0u, sum, offset);
  __syncthreads();  // the sums of an earlier call have been read
  if (lane == 0)
    for (int i = 0; i < kCount; ++i) of_warps[i][warp] = sums[i];
  __syncthreads();
  for (int i = 0; i < kCount; ++i) {
    sums[i] = 0;
    for (unsigned w = 0; w < warps; ++w) sums[i] += of_warps[i][w];
  }
}

// A row of a weight is [in, taps], that of its filter [taps, in].
struct Place {
  int weight, filter;
};
__device__ Place place_of_filter(const Filter& f, int at) {
  return {at % f.in * f.taps + at / f.in, at};
}
__device__ Place place_of_weight(const Filter& f, int at) {
  return {at, at % f.taps * f.in + at / f.taps};
}

// The filter of a row of weights whose sums are known.
template <class T>
__device__ void write_filter(const Filter& f, int64_t row, const Sums& sums, float gain) {
  const int n = f.in * f.taps;
  const Standardisation s = standardisation(sums, n, f.timm);
  const auto scale = static_cast<float>(f.factor * s.scale * gain);
  const auto mean = static_cast<float>(s.mean);
  const float* w = f.weight + row * n;
  T* value = static_cast<T*>(f.value) + row * n;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads)
    value[i] = from_float<T>(scale * (w[place_of_filter(f, i).weight] - mean));
}

template <class T>
__global__ void standardize_kernel(Tables t) {
  const Unit unit = t.units[blockIdx.x];
  const Filter f = t.filters[unit.filter];
  const int n = f.in * f.taps;
  const float* w = f.weight + int64_t{unit.row} * n;
  double sums[2] = {};
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    const double x = w[i];
    sums[0] += x;
    sums[1] += x * x;
  }
  block_sums(sums);
  write_filter<T>(f, unit.row, {sums[0], sums[1]}, f.gain[unit.row]);
}

template <class T>
__global__ void standardize_backward_kernel(Tables t) {
  const Unit unit = t.units[blockIdx.x];
  const Filter f = t.filters[unit.filter];
  const int n = f.in * f.taps;
  const int64_t first = int64_t{unit.row} * n;
  const float* w = f.weight + first;
  const T* d_value = static_cast<const T*>(f.d_value) + first;
  float* d_weight = t.parameters[f.parameter].gradient + first;
  double sums[4] = {};
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    const double x = w[i], d = to_float(d_value[place_of_weight(f, i).filter]);
    sums[0] += x;
    sums[1] += x * x;
    sums[2] += d * x;
    sums[3] += d;
  }
  block_sums(sums);
  const RowGradient g =
      row_gradient({sums[0], sums[1]}, sums[2], sums[3], n, f.timm, f.factor, f.gain[unit.row]);
  double squares[1] = {};
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    const float d = g.weight(to_float(d_value[place_of_weight(f, i).filter]), w[i]);
    d_weight[i] = d;
    squares[0] += static_cast<double>(d) * d;
  }
  block_sums(squares);
  if (threadIdx.x > 0) return;
  t.squares[blockIdx.x] = {sums[1], squares[0]};
  t.parameters[f.gain_parameter].gradient[unit.row] = static_cast<float>(g.gain);
}

__global__ void measure_units_kernel(Tables t) {
  const int64_t number = t.filter_rows + blockIdx.x;
  const Unit unit = t.units[number];
  const Parameter p = t.parameters[unit.parameter];
  const int64_t first = unit.row * p.length;
  double sums[2] = {};
  for (int64_t i = threadIdx.x; i < p.length; i += kThreads) {
    const double w = p.weight[first + i], g = p.gradient[first + i];
    sums[0] += w * w;
    sums[1] += g * g;
  }
  block_sums(sums);
  if (threadIdx.x == 0) t.squares[number] = {sums[0], sums[1]};
}

__device__ double unit_factor(const Tables& t, const Parameter& p, int64_t unit,
                              const ClipSettings& s) {
  const Squares q = t.squares[unit];
  return p.clips ? clip_factor(q.weight, q.gradient, s.threshold, s.eps) : 1;
}

__global__ void decide_kernel(Tables t, ClipSettings s, const double* totals, Outcome* outcome) {
  const int64_t units = t.filter_rows + t.others + t.gains;
  double sums[4] = {};
  for (int64_t u = threadIdx.x; u < units; u += blockDim.x) {
    const Parameter& p = t.parameters[t.units[u].parameter];
    const double factor = unit_factor(t, p, u, s), squares = t.squares[u].gradient;
    sums[0] += squares;
    sums[1] += factor * factor * squares;
    sums[2] += factor < 1;
    sums[3] += p.clips;
  }
  block_sums(sums);
  if (threadIdx.x > 0) return;
  const double norm = sqrt(sums[0]), behind = sqrt(sums[1]);
  *outcome = {.loss = totals[0],
              .top1 = totals[1],
              .grad_norm = norm,
              .clipped = sums[3] > 0 ? sums[2] / sums[3] : 0,
              .factor = s.clip_norm > 0 && behind > s.clip_norm ? s.clip_norm / behind : 1,
              .finite = isfinite(totals[0]) && isfinite(norm)};
}

// The settings for a number of a parameter, in the unit `number`.
__device__ Update update_of(const Tables& t, const Parameter& p, int64_t number,
                            const UpdateSettings& s, const StepNumbers& numbers, double factor) {
  return Update(factor * unit_factor(t, p, number, s.clip), {.decay = p.decay,
                                                             .momentum = s.momentum,
                                                             .rate = numbers.rate,
                                                             .ema_keep = numbers.ema_keep,
                                                             .nesterov = s.nesterov});
}

// Updates one number and returns its new value.
__device__ float update_number(const Parameter& p, int64_t at, const Update& u) {
  const float now = u.step(p.weight[at], p.gradient[at], p.momentum[at]);
  p.weight[at] = now;
  if (p.average) p.average[at] = u.average(p.average[at], now);
  return now;
}

template <class T>
__global__ void update_kernel(Tables t, UpdateSettings s, const StepNumbers* numbers,
                              const Outcome* outcome) {
  if (!outcome->finite) return;
  const Unit unit = t.units[blockIdx.x];
  const Parameter p = t.parameters[unit.parameter];
  const Update u = update_of(t, p, blockIdx.x, s, *numbers, outcome->factor);
  double sums[2] = {};
  for (int64_t i = threadIdx.x; i < p.length; i += kThreads) {
    const double now = update_number(p, unit.row * p.length + i, u);
    sums[0] += now;
    sums[1] += now * now;
  }
  if (unit.filter < 0) return;
  const Filter f = t.filters[unit.filter];
  __shared__ float gain;
  if (threadIdx.x == 0) {
    const Parameter g = t.parameters[f.gain_parameter];
    const int64_t number = g.first_unit + unit.row / g.length;
    gain = update_number(g, unit.row, update_of(t, g, number, s, *numbers, outcome->factor));
  }
  block_sums(sums);  // behind its barriers all threads see the gain and the new weights
  write_filter<T>(f, unit.row, {sums[0], sums[1]}, gain);
}

unsigned blocks_of(int64_t units) {
  return static_cast<unsigned>(units);
}

}  // namespace

void gelu_forward(Type type, Activation activation, const void* x, void* y, int64_t n,
                  cudaStream_t stream) {
  if (n == 0) return;
  for_type(type, [&]<class T>(T*) {
    const Share s = share<T>(n, x, y);
    const auto kernel = activation == Activation::gelu_tanh
                            ? gelu_forward_kernel<T, Activation::gelu_tanh>
                            : gelu_forward_kernel<T, Activation::gelu_erf>;
    kernel<<<s.blocks, kThreads, 0, stream>>>(static_cast<const T*>(x), static_cast<T*>(y),
                                              s.vectors, n);
  });
  check_launch("gelu_forward");
}

void gelu_backward(Type type, Activation activation, const void* d_y, const void* x, void* d_x,
                   int64_t n, cudaStream_t stream) {
  if (n == 0) return;
  for_type(type, [&]<class T>(T*) {
    const Share s = share<T>(n, d_y, x, d_x);
    const auto kernel = activation == Activation::gelu_tanh
                            ? gelu_backward_kernel<T, Activation::gelu_tanh>
                            : gelu_backward_kernel<T, Activation::gelu_erf>;
    kernel<<<s.blocks, kThreads, 0, stream>>>(static_cast<const T*>(d_y), static_cast<const T*>(x),
                                              static_cast<T*>(d_x), s.vectors, n);
  });
  check_launch("gelu_backward");
}

void standardize(const Tables& tables, Type value, cudaStream_t stream) {
  for_type(value, [&]<class T>(T*) {
    standardize_kernel<T><<<blocks_of(tables.filter_rows), kThreads, 0, stream>>>(tables);
  });
  check_launch("standardize");
}

void standardize_backward(const Tables& tables, Type d_value, cudaStream_t stream) {
  for_type(d_value, [&]<class T>(T*) {
    standardize_backward_kernel<T><<<blocks_of(tables.filter_rows), kThreads, 0, stream>>>(tables);
  });
  check_launch("standardize_backward");
}

void measure_units(const Tables& tables, cudaStream_t stream) {
  measure_units_kernel<<<blocks_of(tables.others + tables.gains), kThreads, 0, stream>>>(tables);
  check_launch("measure_units");
}

void decide(const Tables& tables, const ClipSettings& settings, const double* totals,
            Outcome* outcome, cudaStream_t stream) {
  decide_kernel<<<1, 1024, 0, stream>>>(tables, settings, totals, outcome);
  check_launch("decide");
}

void update(const Tables& tables, const UpdateSettings& settings, const StepNumbers* numbers,
            const Outcome* outcome, Type value, cudaStream_t stream) {
  for_type(value, [&]<class T>(T*) {
    update_kernel<T><<<blocks_of(tables.filter_rows + tables.others), kThreads, 0, stream>>>(
        tables, settings, numbers, outcome);
  });
  check_launch("update");
}

}  // namespace nfscale::cuda
