#include "train/bench_kernels.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>

#include "base/process.h"
#include "config/load.h"
#include "kernels/elementwise.h"
#include "kernels/pack.h"
#include "kernels/rows.h"
#include "model/attention.h"
#include "model/conv.h"
#include "model/parallel.h"
#include "model/products.h"
#include "train/evaluate.h"

namespace nfscale {
namespace {

// Seconds of a call: the fastest quarter of the calls of 0.1 s begins there.
template <class Call>
double seconds_of(const Call& call) {
  call();
  std::vector<double> times;
  for (const double end = now_s() + 0.1; times.size() < 8 || now_s() < end;) {
    const double started = now_s();
    call();
    times.push_back(now_s() - started);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 4];
}

// a += b of 128 MB each, more than caches hold: three streams, and none that is read only to be
// overwritten.
double bandwidth() {
  at::Tensor a = at::randn({32 << 20});
  const at::Tensor b = at::randn({32 << 20});
  return 3 * 4.0 * (32 << 20) / seconds_of([&] { a.add_(b); }) * 1e-9;
}

struct Shape {
  Layer layer;
  int64_t side, times;  // of the input; how many layers have it
  Activation activation;
};

// Over the pixels of an NFNet, or the tokens of a Vision Transformer, for which they are 1 x 1.
bool is_convolution(const Layer& l) {
  return l.kind == Layer::Kind::std_conv || (l.kind == Layer::Kind::linear && l.total_stride > 0);
}

Activation activation_of(const Arch& arch, const Layer& l) {
  const bool activated = arch.is_vit() ? l.name.ends_with("fc2") : l.in != arch.in_channels;
  return activated ? Activation::gelu_tanh : Activation::none;
}

std::vector<Shape> convolutions(const Arch& arch, int64_t size) {
  std::vector<Shape> shapes;
  const auto key = [&](const Layer& l) {
    return std::tuple(l.in, l.out, l.kernel, l.stride, l.groups, l.total_stride,
                      activation_of(arch, l));
  };
  for (const Layer& l : arch.layers) {
    if (!is_convolution(l)) continue;
    const auto found = std::find_if(shapes.begin(), shapes.end(),
                                    [&](const Shape& s) { return key(s.layer) == key(l); });
    const int64_t before = l.total_stride / l.stride;
    if (found == shapes.end())
      shapes.push_back({l, (size + before - 1) / before, 1, activation_of(arch, l)});
    else
      ++found->times;
  }
  return shapes;
}

void bench_convolutions(const BenchOptions& o, KernelBench& bench) {
  const Arch arch = make_arch(o.config.model, o.classes);
  const at::TensorOptions type(compute_type(o.precision));
  const auto last = [&](const at::Tensor& t) {
    return t.to(type, false, false, at::MemoryFormat::ChannelsLast);
  };
  for (const Shape& s : convolutions(arch, o.config.train.image_size)) {
    const Layer& layer = s.layer;
    const int64_t side = s.side, times = s.times;
    const Activation activation = s.activation;
    const at::Tensor x = last(at::randn({o.config.train.batch, layer.in, side, side})),
                     w = at::randn({layer.out, layer.kernel, layer.kernel, layer.in / layer.groups})
                             .to(type),
                     bias = at::randn({layer.out});
    const bool first = layer.in == arch.in_channels;
    const ConvSettings settings = {layer.stride, layer.groups, activation, Activation::none};
    const at::Tensor y = conv_forward(settings, x, w, bias);
    const at::Tensor d_y = last(at::randn(y.sizes()));
    const double flop = 2.0 * static_cast<double>(y.numel() * w.numel() / layer.out);
    const std::string shape =
        arch.is_vit()
            ? fmt::format("{} > {}{}, {} tokens", layer.in, layer.out,
                          activation == Activation::none ? "" : ", of GELU", side * side)
            : fmt::format("{} > {}, {} x {}, stride {}, groups {}, {} px", layer.in, layer.out,
                          layer.kernel, layer.kernel, layer.stride, layer.groups, side);
    const auto add = [&](const std::string& name, double seconds, double all) {
      const double rate = all / seconds * 1e-12;
      bench.kernels.push_back(
          {name, shape, times, 1e6 * seconds, rate, 0, rate / bench.gemm_tflops});
    };
    const std::string name = arch.is_vit() ? "layer over tokens" : "convolution";
    add(name, seconds_of([&] { conv_forward(settings, x, w, bias); }), flop);
    add(name + ", backward",
        seconds_of([&] { conv_backward(settings, d_y, x, w, !first, [](auto...) {}); }),
        (first ? 1 : 2) * flop);
  }
}

void bench_attention(const BenchOptions& o, KernelBench& bench) {
  const Arch arch = make_arch(o.config.model, o.classes, sides_of(o.config.train.image_size));
  if (!arch.is_vit()) return;
  const VitShape& s = arch.vit;
  const int64_t tokens = s.tokens() + (s.pool == "tok");
  const auto random = [&](int64_t parts) {
    return at::randn({o.config.train.batch, tokens, parts * s.width}).to(compute_type(o.precision));
  };
  const at::Tensor d_out = random(1), qkv = random(3), d_qkv = random(3);
  const auto attention = [&](const at::Tensor& t) {
    const std::vector<at::Tensor> parts = t.chunk(3, -1);
    return Attention{parts[0], parts[1], parts[2], s.heads};
  };
  const AttentionResult r = attention_forward(attention(qkv));
  const double flop = 4.0 * static_cast<double>(o.config.train.batch * tokens * tokens * s.width);
  const std::string shape =
      fmt::format("{} heads of {}, {} tokens", s.heads, s.width / s.heads, tokens);
  const auto add = [&](const char* name, double seconds, double all) {
    const double rate = all / seconds * 1e-12;
    bench.kernels.push_back(
        {name, shape, s.depth, 1e6 * seconds, rate, 0, rate / bench.gemm_tflops});
  };
  add("attention", seconds_of([&] { attention_forward(attention(qkv)); }), flop);
  add("attention, backward",
      seconds_of([&] { attention_backward(d_out, attention(qkv), r.log_sums, attention(d_qkv)); }),
      2 * flop);
}

// Passes over n numbers of type T, cut into pieces that stay in a second-level cache.
template <class T>
void bench_passes(KernelBench& bench) {
  constexpr int64_t kRows = 256, kColumns = 256, kPiece = kRows * kColumns, kPieces = 256;
  constexpr int64_t n = kPiece * kPieces;
  const at::ScalarType type = kType<T>;
  const at::Tensor x = at::randn({n}).to(type), other = at::randn({n}).to(type),
                   tile = at::randn({n}), numbers = at::randn({kColumns});
  at::Tensor out = at::empty({n}, type), sums = at::empty({kPieces, kColumns}, at::kFloat);
  at::Tensor weights = at::randn({n}), momentum = at::randn({n}), average = at::randn({n});
  const Elementwise<T> k = elementwise<T>();
  const float* row = numbers.const_data_ptr<float>();
  // `streams`: bytes that each number is read and written with.
  const auto add = [&](const std::string& name, double streams, const auto& piece) {
    const double seconds = seconds_of([&] { for_tasks(kPieces, piece); });
    const double rate = streams * static_cast<double>(n) / seconds * 1e-9;
    bench.kernels.push_back(
        {name, "16 M numbers", 1, 1e6 * seconds, 0, rate, rate / bench.bandwidth_gb_s});
  };
  constexpr auto w = static_cast<double>(sizeof(T));
  const auto in = [](const at::Tensor& t, int64_t i) { return data<T>(t) + i * kPiece; };
  const auto to = [&](int64_t i) { return mutable_data<T>(out) + i * kPiece; };
  const auto floats = [](const at::Tensor& t, int64_t i) {
    return t.data_ptr<float>() + i * kPiece;
  };
  for (const Activation act : {Activation::gelu_tanh, Activation::gelu_erf}) {
    const std::string form = act == Activation::gelu_tanh ? "GELU (tanh)" : "GELU (erf)";
    add(form, 2 * w,
        [&](int64_t i) { k.activate(act, in(x, i), kColumns, to(i), kColumns, kRows, kColumns); });
    add(form + ", backward of a tile", 2 * w + 4, [&](int64_t i) {
      k.activate_backward(act, floats(tile, i), kColumns, in(x, i), kColumns, to(i), kColumns,
                          kRows, kColumns);
    });
  }
  add("bias of a tile", w + 4, [&](int64_t i) {
    k.add_bias(Activation::none, floats(tile, i), kColumns, row, to(i), kColumns, kRows, kColumns);
  });
  add("sums of columns", w, [&](int64_t i) {
    k.column_sums(in(x, i), kColumns, kRows, kColumns, sums.data_ptr<float>() + i * kColumns);
  });
  add("products of columns", 2 * w, [&](int64_t i) {
    k.column_dots(in(x, i), in(other, i), kRows, kColumns, sums.data_ptr<float>() + i * kColumns);
  });
  add("residual tail", 3 * w,
      [&](int64_t i) { k.scale_add(in(other, i), in(x, i), row, to(i), kRows, kColumns); });
  add("residual tail, backward", 2 * w,
      [&](int64_t i) { k.scale_shift(in(x, i), row, row, to(i), kRows, kColumns); });
  if constexpr (std::is_same_v<T, Bf16>) {
    add("pairs of rows", 2 * w, [&](int64_t i) {
      pack().interleave(in(x, i), kColumns, kRows, kColumns, to(i), kColumns);
    });
    add("transposition", 2 * w, [&](int64_t i) {
      pack().transpose16(reinterpret_cast<const uint16_t*>(in(x, i)), kColumns, kRows, kColumns,
                         reinterpret_cast<uint16_t*>(to(i)), kRows);
    });
  }
  add("update: momentum, step, average", 7 * 4, [&](int64_t i) {
    rows<float>().sgd(floats(weights, i), floats(momentum, i), floats(average, i), floats(tile, i),
                      0.5, {.decay = 1e-5, .rate = 1e-3, .ema_keep = 0.9999}, kPiece);
  });
  add("gradient of standardisation", 3 * 4, [&](int64_t i) {
    rows<float>().combine(floats(momentum, i), floats(tile, i), 0.5, 0.1, floats(weights, i), 0.1,
                          0.1, kPiece);
  });
}

}  // namespace

KernelBench bench_kernels(const BenchOptions& o) {
  const at::NoGradGuard no_grad;
  KernelBench bench{matrix_product_tflops(o.precision), bandwidth(), {}};
  if (!has_products(compute_type(o.precision)))
    fail(Exit::usage,
         "bench kernels: this machine has no products of {}; the program uses libtorch's "
         "operations here (--precision f32 may have them)",
         o.precision);
  bench_convolutions(o, bench);
  bench_attention(o, bench);
  if (o.precision == "bf16")
    bench_passes<Bf16>(bench);
  else
    bench_passes<float>(bench);
  return bench;
}

}  // namespace nfscale
