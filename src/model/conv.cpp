#include "model/conv.h"

#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "kernels/elementwise.h"
#include "kernels/pack.h"

namespace nfscale {
namespace {

// Bf16 in the kernels is at::BFloat16 in libtorch.
template <class T>
using TorchType = std::conditional_t<std::is_same_v<T, Bf16>, at::BFloat16, float>;
template <class T>
constexpr at::ScalarType kType = std::is_same_v<T, Bf16> ? at::kBFloat16 : at::kFloat;
template <class T>
const T* data(const at::Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* mutable_data(const at::Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

// Products of bfloat16 read pairs of rows of b beside each other.
template <class T>
constexpr int64_t kPair = std::is_same_v<T, Bf16> ? 2 : 1;

int64_t round_up(int64_t n, int64_t to) {
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

// A buffer of this thread that is there again at the next call.
enum class Buffer { grid, tile, d_grid };
template <class T>
T* thread_buffer(Buffer which, int64_t count) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::array<std::pair<std::unique_ptr<void, Free>, size_t>, 3> buffers;
  auto& [memory, size] = buffers[static_cast<size_t>(which)];
  const auto bytes = static_cast<size_t>(round_up(count * static_cast<int64_t>(sizeof(T)), 64));
  if (size < bytes) {
    memory.reset();
    memory.reset(std::aligned_alloc(64, bytes));
    if (!memory) throw std::bad_alloc();
    size = bytes;
  }
  return static_cast<T*>(memory.get());
}

// ---------------------------------------------------------------- geometry
// Output pixels and the zeros between them, numbered: a "slot" each. A row has one slot more than
// pixels and a picture one row more, where the kernel has neighbours; so a tap is the same distance
// in slots from every pixel, whole pictures are one matrix, and padding is a slot like others.
//
// With stride s, input pixel (s y + a, s x + b) belongs to slot (y, x) of phase (a, b): each phase
// is a picture of stride 1.
struct Tap {
  int64_t phase, shift;  // shift in slots
};

struct Geometry {
  int64_t batch, in, height, width, out, out_height, out_width, kernel, stride, groups;
  int64_t margin;  // 1 where the kernel has neighbours
  int64_t row;     // slots of a row
  int64_t in_group, out_group;
  std::vector<Tap> taps;  // in the order of the kernel's elements

  int64_t front() const { return margin * (row + 1); }
  int64_t phases() const { return margin ? stride * stride : 1; }
};

Geometry geometry(const ConvSettings& s, const at::Tensor& x, const at::Tensor& filter) {
  Geometry g{};
  g.batch = x.size(0), g.in = x.size(1), g.height = x.size(2), g.width = x.size(3);
  g.out = filter.size(0), g.kernel = filter.size(1), g.stride = s.stride, g.groups = s.groups;
  g.out_height = (g.height + s.stride - 1) / s.stride;
  g.out_width = (g.width + s.stride - 1) / s.stride;
  g.margin = g.kernel > 1;
  g.row = g.out_width + g.margin;
  g.in_group = g.in / g.groups, g.out_group = g.out / g.groups;
  NFSCALE_CHECK(g.kernel == 1 ? g.stride == 1 : g.kernel == 3 && g.stride <= 2);
  NFSCALE_CHECK(g.out_group % 2 == 0 && (g.in_group % 2 == 0 || g.groups == 1));
  const auto before = [&](int64_t side, int64_t outputs) {
    return std::max<int64_t>((outputs - 1) * s.stride + g.kernel - side, 0) / 2;
  };
  const int64_t top = before(g.height, g.out_height), left = before(g.width, g.out_width);
  for (int64_t ky = 0; ky < g.kernel; ++ky)
    for (int64_t kx = 0; kx < g.kernel; ++kx) {
      const int64_t y = ky - top + s.stride, x_ = kx - left + s.stride;  // not negative
      g.taps.push_back({y % s.stride * s.stride + x_ % s.stride,
                        (y / s.stride - 1) * g.row + x_ / s.stride - 1});
    }
  return g;
}

// What one task works on: whole pictures, or rows [y0, y1) of one.
struct Chunk {
  int64_t image, images, y0, y1;
};

int64_t slots(const Geometry& g, const Chunk& c) {
  return c.images * (c.y1 - c.y0 + g.margin) * g.row;
}

// As many pictures a chunk as the second-level cache holds beside the weights, but one chunk for
// every thread at least.
constexpr int64_t kChunkBytes = 768 << 10;
std::vector<Chunk> chunks(const Geometry& g, int64_t bytes_per_slot, bool split_pictures) {
  const int64_t picture = (g.out_height + g.margin) * g.row * bytes_per_slot;
  const int64_t threads = at::get_num_threads();
  const int64_t images = std::clamp<int64_t>(
      kChunkBytes / picture, 1, std::max<int64_t>(1, (g.batch + threads - 1) / threads));
  std::vector<Chunk> all;
  if (images > 1 || !split_pictures) {
    for (int64_t i = 0; i < g.batch; i += images)
      all.push_back({i, std::min(images, g.batch - i), 0, g.out_height});
    return all;
  }
  const int64_t bands = std::clamp<int64_t>(
      std::max(round_up(picture, kChunkBytes) / kChunkBytes, (threads + g.batch - 1) / g.batch), 1,
      g.out_height);
  const int64_t rows = (g.out_height + bands - 1) / bands;
  for (int64_t i = 0; i < g.batch; ++i)
    for (int64_t y = 0; y < g.out_height; y += rows)
      all.push_back({i, 1, y, std::min(y + rows, g.out_height)});
  return all;
}

// Calls run(first slot - `from`, picture, y, x, count) for the runs of pixels among slots
// [from, to) of the chunk.
template <class Run>
void for_runs(const Geometry& g, const Chunk& c, int64_t from, int64_t to, const Run& run) {
  if (!g.margin) {
    const int64_t row = from / g.row + c.y0;
    return run(0, c.image + row / g.out_height, row % g.out_height, from % g.row, to - from);
  }
  const int64_t rows = c.y1 - c.y0 + 1;
  for (int64_t slot = from; slot < to;) {
    const int64_t line = slot / g.row, x = slot % g.row, next = std::min(to, (line + 1) * g.row);
    const int64_t count = std::min(next - slot, g.out_width - x);
    if (line % rows < rows - 1 && count > 0)
      run(slot - from, c.image + line / rows, c.y0 + line % rows, x, count);
    slot = next;
  }
}

// A picture as the lattice reads it: every `stride`-th pixel from (row, column).
template <class T>
struct Plane {
  const T* pixels;
  int64_t height, width, channels, stride, row, column;
};

// The slots of a chunk, with those in front of it and one behind, `ld` apart: act(plane), zero in
// the margins.
template <class T>
void fill_grid(const Geometry& g, const Chunk& c, const Plane<T>& p, Activation act, T* grid,
               int64_t ld) {
  const Elementwise<T> kernels = elementwise<T>();
  const int64_t length = c.y1 - c.y0,
                columns = std::clamp<int64_t>((p.width - p.column + p.stride - 1) / p.stride, 0,
                                              g.out_width);
  const auto zero = [&](int64_t slot, int64_t count) {
    std::memset(grid + slot * ld, 0, static_cast<size_t>(count * ld) * sizeof(T));
  };
  if (g.margin) zero(0, 1), zero(g.front() + slots(g, c), 1);
  for (int64_t i = 0; i < c.images; ++i)
    for (int64_t r = i ? 0 : -g.margin; r < length + g.margin; ++r) {
      const int64_t slot = g.front() + (i * (length + g.margin) + r) * g.row;
      const int64_t y = (c.y0 + r) * p.stride + p.row;
      if (y < 0 || y >= p.height || c.y0 + r >= g.out_height) {
        zero(slot, g.row);
        continue;
      }
      if (ld != p.channels) zero(slot, columns);
      const T* from = p.pixels + (((c.image + i) * p.height + y) * p.width + p.column) * p.channels;
      kernels.activate(act, from, p.stride * p.channels, grid + slot * ld, ld, columns, p.channels);
      zero(slot + columns, g.row - columns);
    }
}

int64_t grid_slots(const Geometry& g, const Chunk& c) {
  return g.front() + slots(g, c) + g.margin;
}

// ---------------------------------------------------------------- products over a chunk
// Columns of b in blocks of at most 256, results in tiles of at most 256 rows: measured to be best
// for bfloat16 on AMX, where products of 64 x 256 x 512 run at 2.0 TFLOP/s a thread, of 32 x 128 at
// 1.6.
struct Columns {
  int64_t begin, count;
};
std::vector<Columns> column_blocks(int64_t n) {
  const int64_t blocks = (n + 255) / 256, width = round_up((n + blocks - 1) / blocks, 16);
  std::vector<Columns> all;
  for (int64_t begin = 0; begin < n; begin += width)
    all.push_back({begin, std::min(width, n - begin)});
  return all;
}
constexpr int64_t kTile = 64 * 256;

// b of every group and block of columns, packed: [taps][k][columns] each.
template <class T>
struct Packed {
  at::Tensor memory;
  int64_t k, taps;
  std::vector<Columns> blocks;  // of one group
  int64_t group_size() const { return taps * k * (blocks.back().begin + blocks.back().count); }
  const T* block(int64_t group, const Columns& c, int64_t tap) const {
    return data<T>(memory) + group * group_size() + taps * k * c.begin + tap * k * c.count;
  }
};

// pack_tap(group, columns, tap, to)
template <class T, class PackTap>
Packed<T> pack_weights(const Geometry& g, int64_t k, int64_t n, const PackTap& pack_tap) {
  Packed<T> p{{}, round_up(k, kPair<T>), static_cast<int64_t>(g.taps.size()), column_blocks(n)};
  p.memory = at::empty({g.groups * p.group_size()}, kType<T>);
  const auto blocks = static_cast<int64_t>(p.blocks.size());
  at::parallel_for(0, g.groups * blocks, std::max<int64_t>(1, 16384 / (p.k * p.taps * 64)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const Columns& c = p.blocks[static_cast<size_t>(i % blocks)];
                       for (int64_t tap = 0; tap < p.taps; ++tap)
                         pack_tap(i / blocks, c, tap, const_cast<T*>(p.block(i / blocks, c, tap)));
                     }
                   });
  return p;
}

// For the forward pass k are input and n output channels, so rows of the filter become columns.
template <class T>
Packed<T> pack_forward(const Geometry& g, const T* filter) {
  const Pack kernels = pack();
  const int64_t row = g.kernel * g.kernel * g.in_group;
  return pack_weights<T>(
      g, g.in_group, g.out_group, [&](int64_t group, const Columns& c, int64_t tap, T* to) {
        const T* from = filter + (group * g.out_group + c.begin) * row + tap * g.in_group;
        if constexpr (std::is_same_v<T, float>) {
          kernels.transpose32(reinterpret_cast<const uint32_t*>(from), row, c.count, g.in_group,
                              reinterpret_cast<uint32_t*>(to), c.count);
        } else if (g.in_group % 2 == 0) {  // pairs of input channels travel as one number
          kernels.transpose32(reinterpret_cast<const uint32_t*>(from), row / 2, c.count,
                              g.in_group / 2, reinterpret_cast<uint32_t*>(to), c.count);
        } else {
          for (int64_t k = 0; k < g.in_group + 1; ++k)
            for (int64_t n = 0; n < c.count; ++n)
              to[k / 2 * 2 * c.count + 2 * n + k % 2] =
                  k < g.in_group ? from[n * row + k] : Bf16{0};
        }
      });
}

// For the gradient of x, k are output and n input channels.
template <class T>
Packed<T> pack_backward(const Geometry& g, const T* filter) {
  const Pack kernels = pack();
  const int64_t row = g.kernel * g.kernel * g.in_group;
  return pack_weights<T>(
      g, g.out_group, g.in_group, [&](int64_t group, const Columns& c, int64_t tap, T* to) {
        const T* from = filter + group * g.out_group * row + tap * g.in_group + c.begin;
        if constexpr (std::is_same_v<T, float>)
          for (int64_t k = 0; k < g.out_group; ++k)
            std::copy_n(from + k * row, c.count, to + k * c.count);
        else
          kernels.interleave(from, row, g.out_group, c.count, to, c.count);
      });
}

// Which taps a product sums up, and where each reads: `grid` is slot 0 of its phase.
template <class T>
struct Term {
  const T* grid;
  int64_t tap;
};

// For every block of columns and of slots: finish(group, columns, from, to, tile).
template <class T, class Finish>
void products(const Packed<T>& b, int64_t groups, const std::vector<Term<T>>& terms, int64_t lda,
              int64_t count, const Finish& finish) {
  float* tile = thread_buffer<float>(Buffer::tile, kTile);
  for (int64_t group = 0; group < groups; ++group)
    for (const Columns& c : b.blocks) {
      const int64_t rows = std::min<int64_t>(kTile / c.count / 16 * 16, 256);
      for (int64_t from = 0; from < count; from += rows) {
        const int64_t to = std::min(from + rows, count);
        bool add = false;
        for (const Term<T>& term : terms) {
          product(to - from, c.count, b.k, term.grid + from * lda + group * b.k, lda,
                  b.block(group, c, term.tap), c.count, tile, c.count, add);
          add = true;
        }
        finish(group, c, from, to, tile);
      }
    }
}

// ---------------------------------------------------------------- forward
template <class T>
void forward_chunk(const Geometry& g, Activation act, const Chunk& c, const T* x,
                   const Packed<T>& b, const float* bias, T* y) {
  const Elementwise<T> kernels = elementwise<T>();
  const int64_t ld = g.groups * b.k, count = slots(g, c) - g.margin * g.row;
  std::vector<Term<T>> terms;
  if (!g.margin && act == Activation::none && ld == g.in) {
    terms.push_back({x + (c.image * g.out_height + c.y0) * g.out_width * g.in, 0});
  } else {
    const int64_t size = grid_slots(g, c) * ld;
    T* grid = thread_buffer<T>(Buffer::grid, g.phases() * size);
    for (int64_t phase = 0; phase < g.phases(); ++phase)
      fill_grid<T>(g, c, {x, g.height, g.width, g.in, g.stride, phase / g.stride, phase % g.stride},
                   act, grid + phase * size, ld);
    for (const Tap& tap : g.taps)
      terms.push_back(
          {grid + tap.phase * size + (g.front() + tap.shift) * ld, &tap - g.taps.data()});
  }
  products<T>(b, g.groups, terms, ld, count,
              [&](int64_t group, const Columns& columns, int64_t from, int64_t to, float* tile) {
                const int64_t channel = group * g.out_group + columns.begin;
                for_runs(
                    g, c, from, to,
                    [&](int64_t at, int64_t image, int64_t row, int64_t column, int64_t n) {
                      const int64_t pixel = (image * g.out_height + row) * g.out_width + column;
                      kernels.add_bias(tile + at * columns.count, columns.count, bias + channel,
                                       y + pixel * g.out + channel, g.out, n, columns.count);
                    });
              });
}

template <class T>
at::Tensor forward(const ConvSettings& s, const at::Tensor& x, const at::Tensor& filter,
                   const at::Tensor& bias) {
  const Geometry g = geometry(s, x, filter);
  at::Tensor y = at::empty({g.batch, g.out, g.out_height, g.out_width}, x.options(),
                           at::MemoryFormat::ChannelsLast);
  const Packed<T> b = pack_forward<T>(g, data<T>(filter));
  const std::vector<Chunk> all =
      chunks(g, g.phases() * g.groups * b.k * static_cast<int64_t>(sizeof(T)), true);
  at::parallel_for(0, static_cast<int64_t>(all.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      forward_chunk<T>(g, s.activation, all[static_cast<size_t>(i)], data<T>(x), b,
                       data<float>(bias), mutable_data<T>(y));
    end_products<T>();
  });
  return y;
}

// ---------------------------------------------------------------- backward
// Both operands of the gradient of the filter, over the slots of several chunks one behind the
// other: columns of d_y as rows, act(x) as rows of channels.
template <class T>
struct FilterOperands {
  int64_t length;      // slots, a multiple of kPair
  int64_t d_y_length;  // with the margins in front and behind
  int64_t channels;    // of x, with those that make pairs
  at::Tensor d_y;      // [O, d_y_length]
  at::Tensor x;        // [phases, length / kPair, channels, kPair]
};

template <class T>
void gather_operands(const Geometry& g, Activation act, const Chunk& c, int64_t first_slot,
                     const T* x, const T* d_grid, FilterOperands<T>& o) {
  const Pack kernels = pack();
  const int64_t count = slots(g, c), padded = round_up(count, kPair<T>);
  T* d_y = mutable_data<T>(o.d_y) + g.front() + first_slot;
  if constexpr (std::is_same_v<T, float>)
    kernels.transpose32(reinterpret_cast<const uint32_t*>(d_grid), g.out, count, g.out,
                        reinterpret_cast<uint32_t*>(d_y), o.d_y_length);
  else
    kernels.transpose16(reinterpret_cast<const uint16_t*>(d_grid), g.out, count, g.out,
                        reinterpret_cast<uint16_t*>(d_y), o.d_y_length);
  if (padded > count)
    for (int64_t k = 0; k < g.out; ++k) d_y[k * o.d_y_length + count] = T{};
  T* grid = thread_buffer<T>(Buffer::grid, grid_slots(g, c) * o.channels);
  for (int64_t phase = 0; phase < g.phases(); ++phase) {
    fill_grid<T>(g, c, {x, g.height, g.width, g.in, g.stride, phase / g.stride, phase % g.stride},
                 act, grid, o.channels);
    const T* from = grid + g.front() * o.channels;
    T* to = mutable_data<T>(o.x) + (phase * o.length + first_slot) * o.channels;
    if constexpr (std::is_same_v<T, float>)
      std::copy_n(from, count * o.channels, to);
    else
      kernels.interleave(from, o.channels, count, o.channels, to, o.channels);
  }
}

// d_x of a chunk: every phase is a convolution of d_y with its taps mirrored.
template <class T>
void backward_chunk(const Geometry& g, Activation act, const Chunk& c, const T* d_grid, const T* x,
                    const Packed<T>& b, T* d_x) {
  const Elementwise<T> kernels = elementwise<T>();
  const int64_t count = slots(g, c) - g.margin * g.row;
  for (int64_t phase = 0; phase < g.phases(); ++phase) {
    const int64_t row0 = phase / g.stride, column0 = phase % g.stride;
    std::vector<Term<T>> terms;
    for (const Tap& tap : g.taps)
      if (tap.phase == phase)
        terms.push_back({d_grid + (g.front() - tap.shift) * g.out, &tap - g.taps.data()});
    products<T>(
        b, g.groups, terms, g.out, count,
        [&](int64_t group, const Columns& columns, int64_t from, int64_t to, float* tile) {
          const int64_t channel = group * g.in_group + columns.begin;
          for_runs(
              g, c, from, to, [&](int64_t at, int64_t image, int64_t y, int64_t column, int64_t n) {
                const int64_t row = y * g.stride + row0, first = column * g.stride + column0;
                const int64_t inside =
                    g.margin ? std::min(n, (g.width - first + g.stride - 1) / g.stride) : n;
                if (row >= g.height || inside <= 0) return;
                const int64_t pixel = ((image * g.height + row) * g.width + first) * g.in + channel;
                kernels.activate_backward(act, tile + at * columns.count, columns.count, x + pixel,
                                          g.stride * g.in, d_x + pixel, g.stride * g.in, inside,
                                          columns.count);
              });
        });
  }
}

// Filters of a block by channels of a block, every tap: products over all slots.
template <class T>
void filter_products(const Geometry& g, const FilterOperands<T>& o, bool add, float* d_filter) {
  constexpr int64_t kFilters = 64;
  const int64_t depth =
      2048 / (g.margin ? 2 : 1);  // slots a product, so that both operands stay in cache
  const int64_t row = g.kernel * g.kernel * g.in_group;
  const int64_t filter_blocks = (g.out_group + kFilters - 1) / kFilters;
  const std::vector<Columns> blocks = column_blocks(g.in_group);
  const auto channel_blocks = static_cast<int64_t>(blocks.size());
  at::parallel_for(
      0, g.groups * channel_blocks * filter_blocks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t group = i / filter_blocks / channel_blocks;
          const Columns& c = blocks[static_cast<size_t>(i / filter_blocks % channel_blocks)];
          const int64_t filter = group * g.out_group + i % filter_blocks * kFilters;
          const int64_t filters = std::min(kFilters, (group + 1) * g.out_group - filter);
          const int64_t channel = group * g.in_group + c.begin;
          for (int64_t from = 0; from < o.length; from += depth)
            for (const Tap& tap : g.taps)
              product(
                  filters, c.count, std::min(depth, o.length - from),
                  data<T>(o.d_y) + filter * o.d_y_length + g.front() + from - tap.shift,
                  o.d_y_length,
                  data<T>(o.x) + (tap.phase * o.length + from) * o.channels + channel * kPair<T>,
                  o.channels,
                  d_filter + filter * row + (&tap - g.taps.data()) * g.in_group + c.begin, row,
                  add || from > 0);
        }
        end_products<T>();
      });
}

// The chunks of a backward pass come in parts whose operands fit this many bytes.
constexpr int64_t kOperandBytes = int64_t{64} << 20;

template <class T>
ConvGradients backward(const ConvSettings& s, const at::Tensor& d_y, const at::Tensor& x,
                       const at::Tensor& filter, at::Tensor& d_filter, bool add, bool wants_x) {
  const Geometry g = geometry(s, x, filter);
  ConvGradients result;
  Packed<T> b;
  if (wants_x) {
    result.x = at::empty_like(x, at::TensorOptions(), at::MemoryFormat::ChannelsLast);
    b = pack_backward<T>(g, data<T>(filter));
  }
  const int64_t channels = g.groups * round_up(g.in_group, kPair<T>);
  const int64_t slot_bytes = (g.out + g.phases() * channels) * static_cast<int64_t>(sizeof(T));
  const std::vector<Chunk> all = chunks(g, slot_bytes, false);
  const auto count = static_cast<int64_t>(all.size());
  at::Tensor sums = at::zeros({count, g.out}, at::kFloat);

  for (int64_t first = 0, last = 0; first < count; first = last) {
    std::vector<int64_t> starts;
    int64_t length = 0;
    for (; last < count && (last == first || length * slot_bytes < kOperandBytes); ++last) {
      starts.push_back(length);
      length += round_up(slots(g, all[static_cast<size_t>(last)]), kPair<T>);
    }
    FilterOperands<T> o{length, length + 2 * g.front(), channels, {}, {}};
    o.d_y = at::empty({g.out * o.d_y_length + 1}, kType<T>);
    o.x = at::empty({g.phases() * length * channels}, kType<T>);
    for (int64_t k = 0; k < g.out; ++k) {
      T* line = mutable_data<T>(o.d_y) + k * o.d_y_length;
      std::fill_n(line, g.front(), T{});
      std::fill_n(line + g.front() + length, g.front(), T{});
    }
    at::parallel_for(first, last, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Chunk& c = all[static_cast<size_t>(i)];
        const T* d_grid = data<T>(d_y) + c.image * g.out_height * g.out_width * g.out;
        if (g.margin) {
          T* padded = thread_buffer<T>(Buffer::d_grid, grid_slots(g, c) * g.out);
          fill_grid<T>(g, c, {data<T>(d_y), g.out_height, g.out_width, g.out, 1, 0, 0},
                       Activation::none, padded, g.out);
          d_grid = padded;
        }
        const T* core = d_grid + g.front() * g.out;
        elementwise<T>().column_sums(core, g.out, slots(g, c), g.out,
                                     mutable_data<float>(sums) + i * g.out);
        if (wants_x)
          backward_chunk<T>(g, s.activation, c, d_grid, data<T>(x), b, mutable_data<T>(result.x));
        gather_operands<T>(g, s.activation, c, starts[static_cast<size_t>(i - first)], data<T>(x),
                           core, o);
      }
      end_products<T>();
    });
    filter_products<T>(g, o, add || first > 0, mutable_data<float>(d_filter));
  }
  result.bias = sums.sum(0);
  return result;
}

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

at::Tensor conv_forward(const ConvSettings& s, const at::Tensor& x, const at::Tensor& filter,
                        const at::Tensor& bias) {
  return x.scalar_type() == at::kFloat ? forward<float>(s, x, filter, bias)
                                       : forward<Bf16>(s, x, filter, bias);
}

ConvGradients conv_backward(const ConvSettings& s, const at::Tensor& d_y, const at::Tensor& x,
                            const at::Tensor& filter, at::Tensor& d_filter, bool add,
                            bool wants_x) {
  return x.scalar_type() == at::kFloat ? backward<float>(s, d_y, x, filter, d_filter, add, wants_x)
                                       : backward<Bf16>(s, d_y, x, filter, d_filter, add, wants_x);
}

}  // namespace nfscale
