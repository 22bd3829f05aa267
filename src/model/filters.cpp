#include "model/filters.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <cmath>
#include <cstdlib>
#include <unordered_map>

#include "cuda/devices.h"
#include "kernels/elementwise.h"
#include "kernels/pack.h"
#include "model/conv.h"
#include "model/cuda.h"
#include "model/parallel.h"
#include "model/products.h"

namespace nfscale {
namespace {

// A row of a weight is [I, k k], that of its filter [k k, I].
void to_filter_order(const float* w, float* out, int64_t in, int64_t taps) {
  pack().transpose32(reinterpret_cast<const uint32_t*>(w), taps, in, taps,
                     reinterpret_cast<uint32_t*>(out), in);
}
void to_weight_order(const float* f, float* out, int64_t in, int64_t taps) {
  to_filter_order(f, out, taps, in);
}

struct RowShape {
  int64_t n, in, taps;
};
RowShape row_shape(const Filter& f) {
  return {f.value.numel() / f.value.size(0), f.value.size(3), f.value.size(1) * f.value.size(2)};
}

float* row_buffer(int64_t n) {
  thread_local std::vector<float> buffer;
  if (std::ssize(buffer) < n) buffer.resize(static_cast<size_t>(n));
  return buffer.data();
}

// Calls work(begin, end) for the rows of a filter, in parallel.
template <class Work>
void for_rows(const Filter& f, const Work& work) {
  const int64_t rows = f.value.size(0), step = std::max<int64_t>(1, 16384 / row_shape(f).n);
  for_tasks((rows + step - 1) / step,
            [&](int64_t i) { work(i * step, std::min(rows, (i + 1) * step)); });
}

// Scaled weight standardisation (B21 section 4.1; both programs' epsilons).
RowStatistics statistics(const Sums& sums, int64_t n, Numerics numerics) {
  const auto count = static_cast<double>(n);
  const double mean = sums.sum / count, centred = std::max(0.0, sums.squares - count * mean * mean);
  if (numerics == Numerics::timm)
    return {mean, 1 / std::sqrt(centred + 1e-5 * count), sums.squares, false};
  return {mean, 1 / std::sqrt(std::max(centred, 1e-4)), sums.squares, centred < 1e-4};
}

}  // namespace

std::vector<double> input_factors(const Arch& arch) {
  std::vector<double> factors(arch.layers.size(), 1);
  const auto set = [&](int layer, double factor) {
    if (layer >= 0) factors[static_cast<size_t>(layer)] = factor;
  };
  for (size_t i = 1; i < arch.stem.size(); ++i) set(arch.stem[i], kGeluFactor);
  for (const Block& b : arch.blocks) {
    for (const int layer : {b.projection, b.conv1}) set(layer, kGeluFactor * b.beta);
    for (const int layer : {b.conv2, b.conv2b, b.conv3}) set(layer, kGeluFactor);
  }
  return factors;
}

Numerics numerics_of(const Arch& arch) {
  return arch.numerics == "timm" ? Numerics::timm : Numerics::deepmind;
}

bool uses_kernels(at::ScalarType compute) {
  static const bool reference = [] {
    const char* wanted = std::getenv("NFSCALE_KERNELS");
    return wanted && std::string_view(wanted) == "reference";
  }();
  return !reference && has_products(compute);
}

namespace {

// By row, where the gradient of the weight is kept as factors.
void set_weight_squares(const at::Tensor& w, DenseGradient& g) {
  if (g.weight_squares.empty()) return;
  const int64_t n = w.numel() / w.size(0);
  at::parallel_for(0, std::ssize(g.weight_squares), std::max<int64_t>(1, 16384 / n),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t r = begin; r < end; ++r)
                       g.weight_squares[static_cast<size_t>(r)] =
                           rows<float>().sums(w.const_data_ptr<float>() + r * n, n).squares;
                   });
}

// The weights of squeeze-excite, of which no side is 1: then clipping takes them row by row.
std::vector<DenseGradient> dense_gradients(const Model& model) {
  std::vector<DenseGradient> all(model.params.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const at::Tensor& w = model.weights[i];
    const std::string& name = model.params[i].name;
    if (!name.ends_with(".attn_last.fc1.weight") && !name.ends_with(".attn_last.fc2.weight"))
      continue;
    if (w.size(0) == 1 || w.size(1) == 1) continue;
    all[i].weight_squares.resize(static_cast<size_t>(w.size(0)));
    set_weight_squares(w, all[i]);
  }
  return all;
}

// Convolutions of an NFNet; what a Transformer does to every token, and to every patch.
bool has_filter(const Layer& l) {
  return l.kind == Layer::Kind::std_conv ||
         (l.total_stride > 1 &&
          (l.kind == Layer::Kind::linear || (l.kind == Layer::Kind::conv && l.kernel == l.stride)));
}

// A patch is one position of kernel^2 in channels.
bool kernels_have(const Layer& l) {
  if (l.kind == Layer::Kind::std_conv)
    return has_convolution(l.in, l.out, l.kernel, l.stride, l.groups);
  return has_convolution(l.in * l.kernel * l.kernel, l.out, 1, 1, 1);
}

}  // namespace

Filters make_filters(const Model& model, at::ScalarType compute, bool training) {
  Filters filters;
  filters.compute = compute;
  const bool on_gpu = cuda::kBuilt && model.weights[0].is_cuda();
  if (model.weights[0].scalar_type() != at::kFloat) return filters;
  if (on_gpu ? compute == at::kDouble : !uses_kernels(compute)) return filters;
  if (on_gpu && model.arch.is_vit()) return filters;
  for (const Layer& l : model.arch.layers)
    if (!on_gpu && has_filter(l) && !kernels_have(l)) return filters;
  std::unordered_map<std::string, size_t> places;
  for (size_t i = 0; i < model.params.size(); ++i) places[model.params[i].name] = i;
  const std::vector<double> factors = input_factors(model.arch);
  filters.of_layer.resize(model.arch.layers.size());
  for (size_t i = 0; i < filters.of_layer.size(); ++i) {
    const Layer& layer = model.arch.layers[i];
    if (!has_filter(layer)) continue;
    Filter& f = filters.of_layer[i];
    f.standardized = layer.kind == Layer::Kind::std_conv;
    f.weight = places.at(layer.name + ".weight");
    if (f.standardized) {
      f.gain = places.at(layer.name + ".gain");
      f.factor = factors[i];
      f.numerics = numerics_of(model.arch);
    }
    const at::Tensor& w = model.weights[f.weight];
    const int64_t side = layer.kernel;
    f.value = at::empty({w.size(0), side, side, w.size(1)}, w.options().dtype(compute));
    if (on_gpu) continue;
    if (training) f.gradient = at::empty(f.value.sizes(), at::kFloat);
    f.rows.resize(static_cast<size_t>(w.size(0)));
    f.squares.resize(f.rows.size());
    for_rows(
        f, [&](int64_t begin, int64_t end) { filter_rows_forward(model.weights, f, begin, end); });
    if (training) continue;
    f.packed =
        pack_filter(f.standardized ? f.value : f.value.view({layer.out, 1, 1, -1}), layer.groups);
    // From here on `value` stands for its shape.
    f.value = at::empty({1}, compute).expand(f.value.sizes());
  }
  if constexpr (cuda::kBuilt)
    if (on_gpu) standardize_on_gpu(model, filters);
  if (training && !on_gpu && has_products(at::kFloat)) filters.dense = dense_gradients(model);
  return filters;
}

void remake_filters(const Weights& weights, Filters& filters) {
  for (Filter& f : filters.of_layer)
    if (f.value.defined())
      for_rows(f, [&](int64_t begin, int64_t end) { filter_rows_forward(weights, f, begin, end); });
  for (size_t i = 0; i < filters.dense.size(); ++i)
    set_weight_squares(weights[i], filters.dense[i]);
}

void filter_rows_forward(const Weights& weights, Filter& f, int64_t begin, int64_t end,
                         const Sums* sums) {
  const Rows<float> kernels = rows<float>();
  const auto [n, in, taps] = row_shape(f);
  const float* w = weights[f.weight].const_data_ptr<float>() + begin * n;
  const float* gain = f.standardized ? weights[f.gain].const_data_ptr<float>() : nullptr;
  float* buffer = row_buffer(2 * n);
  for (int64_t r = begin; r < end; ++r, w += n) {
    RowStatistics& row = f.rows[static_cast<size_t>(r)];
    const Sums own = sums ? *sums : kernels.sums(w, n);
    if (gain) {
      row = statistics(own, n, f.numerics);
      kernels.scale(buffer, w, f.factor * row.scale * static_cast<double>(gain[r]), row.mean, n);
    } else {
      row = {.mean = 0, .scale = 1, .squares = own.squares};
      std::copy_n(w, n, buffer);
    }
    const float* scaled = buffer;
    if (taps > 1) {
      to_filter_order(buffer, buffer + n, in, taps);
      scaled = buffer + n;
    }
    if (f.value.scalar_type() == at::kFloat)
      std::copy_n(scaled, n, f.value.mutable_data_ptr<float>() + r * n);
    else
      elementwise<Bf16>().activate_backward(Activation::none, scaled, n, nullptr, n,
                                            static_cast<Bf16*>(f.value.data_ptr()) + r * n, n, 1,
                                            n);
  }
}

// With c = w - mean, s the scale and k = factor * gain:
//   d gain = factor s sum(d value c)
//   d w = k s (d value - mean(d value)) - k s^3 sum(d value c) c
// the last part only where s depends on the weights.
void filter_rows_backward(const Weights& weights, Filter& f, int64_t first, int64_t count,
                          float* d_rows, bool add, bool last) {
  const Rows<float> kernels = rows<float>();
  const auto [n, in, taps] = row_shape(f);
  float* gradient = f.gradient.mutable_data_ptr<float>() + first * n;
  if (add) kernels.add(d_rows, gradient, count * n);
  if (!last) {
    std::copy_n(d_rows, count * n, gradient);
    return;
  }
  const float* w = weights[f.weight].const_data_ptr<float>() + first * n;
  const float* gain = f.standardized ? weights[f.gain].const_data_ptr<float>() : nullptr;
  float* d_gain = gain ? weights[f.gain].grad().mutable_data_ptr<float>() : nullptr;
  float* buffer = row_buffer(n);
  for (int64_t r = first; r < first + count; ++r, w += n, d_rows += n, gradient += n) {
    const float* d_value = d_rows;
    if (taps > 1) {
      to_weight_order(d_rows, buffer, in, taps);
      d_value = buffer;
    }
    if (!gain) {
      f.squares[static_cast<size_t>(r)] = kernels.combine(gradient, d_value, 1, 0, w, 0, 0, n);
      continue;
    }
    const RowStatistics& row = f.rows[static_cast<size_t>(r)];
    const auto [along, sum] = kernels.dot_and_sum(d_value, w, row.mean, n);
    const double scale = f.factor * row.scale * static_cast<double>(gain[r]);
    const double back = row.constant_scale ? 0 : along * row.scale * row.scale * scale;
    d_gain[r] = static_cast<float>(f.factor * along * row.scale);
    f.squares[static_cast<size_t>(r)] = kernels.combine(
        gradient, d_value, scale, sum / static_cast<double>(n), w, back, row.mean, n);
  }
}

void add_dense_gradient(DenseGradient& g, const at::Tensor& d_y, const at::Tensor& x) {
  const at::Tensor columns = d_y.t().contiguous();
  g.d_y = g.d_y.defined() ? at::cat({g.d_y, columns}, 1) : columns;
  g.x = g.x.defined() ? at::cat({g.x, x}, 0) : x.contiguous();
}

const float* dense_gradient_rows(const DenseGradient& g, int64_t first, int64_t count) {
  constexpr int64_t kColumns = 256;
  const int64_t examples = g.x.size(0), n = g.x.size(1);
  float* out = row_buffer(count * n);
  for (int64_t c = 0; c < n; c += kColumns)
    product<float>(count, std::min(kColumns, n - c), examples,
                   g.d_y.const_data_ptr<float>() + first * examples, examples,
                   g.x.const_data_ptr<float>() + c, n, out + c, n, false);
  end_products<float>();
  return out;
}

std::vector<double> dense_row_squares(const DenseGradient& g) {
  constexpr int64_t kNumbers = 32768;  // at a time: they stay in the cache
  const int64_t n = g.x.size(1), step = std::max<int64_t>(1, kNumbers / n);
  std::vector<double> squares;
  for (int64_t first = 0; first < g.d_y.size(0); first += step) {
    const int64_t count = std::min(step, g.d_y.size(0) - first);
    const float* values = dense_gradient_rows(g, first, count);
    for (int64_t r = 0; r < count; ++r)
      squares.push_back(rows<float>().squares(values + r * n, 0, n));
  }
  return squares;
}

std::vector<at::Tensor> gradients(const Weights& weights, const Filters& filters) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& w : weights) {
    const size_t i = all.size();
    const bool factors = i < filters.dense.size() && filters.dense[i].d_y.defined();
    all.push_back(factors ? at::mm(filters.dense[i].d_y, filters.dense[i].x).view(w.sizes())
                          : w.grad());
  }
  return all;
}

void set_gradients(const Weights& weights, Filters& filters, const std::vector<at::Tensor>& sums) {
  for (DenseGradient& g : filters.dense) g.d_y = g.x = at::Tensor();
  for (size_t k = 0; k < weights.size(); ++k) weights[k].mutable_grad() = sums[k];
  for (Filter& f : filters.of_layer) {
    if (!f.gradient.defined()) continue;
    const at::Tensor& w = weights[f.weight];
    w.mutable_grad() = f.gradient.view(w.sizes());
    w.mutable_grad().copy_(sums[f.weight]);
    const int64_t n = w.numel() / w.size(0);
    const float* g = f.gradient.const_data_ptr<float>();
    for_rows(f, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        f.squares[static_cast<size_t>(r)] = rows<float>().squares(g + r * n, 0, n);
    });
  }
}

void begin_gradients(const Weights& weights, Filters& filters) {
  for (DenseGradient& g : filters.dense) g.d_y = g.x = at::Tensor();
  for (const at::Tensor& w : weights) w.mutable_grad() = at::Tensor();
  for (Filter& f : filters.of_layer) {
    if (!f.gradient.defined()) continue;
    const at::Tensor &w = weights[f.weight], &gain = weights[f.gain];
    w.mutable_grad() = f.gradient.view(w.sizes());
    if (f.standardized) gain.mutable_grad() = at::empty(gain.sizes(), at::kFloat);
  }
  filters.summed = false;
  filters.weights = &weights;
}

void add_gradients(const at::Tensor& loss, Filters& filters, bool last) {
  filters.last = last;
  loss.backward();
  filters.summed = true;
}

}  // namespace nfscale
