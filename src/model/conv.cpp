#include "model/conv.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include "base/error.h"
#include "kernels/elementwise.h"
#include "kernels/pack.h"
#include "kernels/rows.h"
#include "model/parallel.h"
#include "model/products.h"

namespace nfscale {
namespace {

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

struct FilterShape {
  int64_t out, kernel, groups, in_group, out_group;
  int64_t taps() const { return kernel * kernel; }
  int64_t row() const { return taps() * in_group; }  // numbers of one filter

  FilterShape(const at::Tensor& filter, int64_t group_count)
      : out(filter.size(0)),
        kernel(filter.size(1)),
        groups(group_count),
        in_group(filter.size(3)),
        out_group(out / groups) {}
};

struct Geometry : FilterShape {
  using FilterShape::FilterShape;
  int64_t batch = 0, in = 0, height = 0, width = 0, out_height = 0, out_width = 0, stride = 1;
  int64_t margin = 0;  // 1 where the kernel has neighbours
  int64_t row_slots = 0;
  std::vector<Tap> places;  // of the kernel's elements, in their order

  int64_t front() const { return margin * (row_slots + 1); }
  int64_t phases() const { return margin ? stride * stride : 1; }
};

Geometry geometry(const ConvSettings& s, const at::Tensor& x, const at::Tensor& filter) {
  Geometry g(filter, s.groups);
  g.batch = x.size(0), g.in = x.size(1), g.height = x.size(2), g.width = x.size(3);
  g.stride = s.stride;
  NFSCALE_CHECK(has_convolution(g.in, g.out, g.kernel, g.stride, g.groups));
  g.out_height = (g.height + s.stride - 1) / s.stride;
  g.out_width = (g.width + s.stride - 1) / s.stride;
  g.margin = g.kernel > 1;
  g.row_slots = g.out_width + g.margin;
  const auto before = [&](int64_t side, int64_t outputs) {
    return std::max<int64_t>((outputs - 1) * s.stride + g.kernel - side, 0) / 2;
  };
  const int64_t top = before(g.height, g.out_height), left = before(g.width, g.out_width);
  for (int64_t ky = 0; ky < g.kernel; ++ky)
    for (int64_t kx = 0; kx < g.kernel; ++kx) {
      const int64_t y = ky - top + s.stride, x_ = kx - left + s.stride;  // not negative
      g.places.push_back({y % s.stride * s.stride + x_ % s.stride,
                          (y / s.stride - 1) * g.row_slots + x_ / s.stride - 1});
    }
  return g;
}

// What one task works on: whole pictures, or rows [y0, y1) of one.
struct Chunk {
  int64_t image, images, y0, y1;
};

int64_t slots(const Geometry& g, const Chunk& c) {
  return c.images * (c.y1 - c.y0 + g.margin) * g.row_slots;
}

// As many pictures a chunk as the second-level cache holds beside the weights, but one chunk for
// every thread at least.
constexpr int64_t kChunkBytes = 768 << 10;
std::vector<Chunk> chunks(const Geometry& g, int64_t bytes_per_slot, bool split_pictures) {
  const int64_t picture = (g.out_height + g.margin) * g.row_slots * bytes_per_slot;
  const int64_t threads = at::get_num_threads();
  // As many chunks for each thread as for the others.
  const int64_t most = std::clamp<int64_t>(kChunkBytes / picture, 1, g.batch);
  const int64_t wanted = round_up((g.batch + most - 1) / most, threads);
  const int64_t images = (g.batch + wanted - 1) / wanted;
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
    const int64_t row = from / g.row_slots + c.y0;
    return run(0, c.image + row / g.out_height, row % g.out_height, from % g.row_slots, to - from);
  }
  const int64_t rows = c.y1 - c.y0 + 1;
  for (int64_t slot = from; slot < to;) {
    const int64_t line = slot / g.row_slots, x = slot % g.row_slots,
                  next = std::min(to, (line + 1) * g.row_slots);
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
      const int64_t slot = g.front() + (i * (length + g.margin) + r) * g.row_slots;
      const int64_t y = (c.y0 + r) * p.stride + p.row;
      if (y < 0 || y >= p.height || c.y0 + r >= g.out_height) {
        zero(slot, g.row_slots);
        continue;
      }
      if (ld != p.channels) zero(slot, columns);
      const T* from = p.pixels + (((c.image + i) * p.height + y) * p.width + p.column) * p.channels;
      kernels.activate(act, from, p.stride * p.channels, grid + slot * ld, ld, columns, p.channels);
      zero(slot + columns, g.row_slots - columns);
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

// pack_block(group, columns, to) unless it is `made`.
template <class T, class PackBlock>
Packed<T> pack_weights(const FilterShape& g, int64_t k, int64_t n, const at::Tensor& made,
                       const PackBlock& pack_block) {
  Packed<T> p{{}, round_up(k, kPair<T>), g.taps(), column_blocks(n)};
  p.memory = made.defined() ? made : at::empty({g.groups * p.group_size()}, kType<T>);
  if (made.defined()) return p;
  const auto blocks = static_cast<int64_t>(p.blocks.size());
  at::parallel_for(0, g.groups * blocks, std::max<int64_t>(1, 16384 / (p.k * p.taps * 64)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const Columns& c = p.blocks[static_cast<size_t>(i % blocks)];
                       pack_block(i / blocks, c, const_cast<T*>(p.block(i / blocks, c, 0)));
                     }
                   });
  return p;
}

// For the forward pass k are input and n output channels, so rows of the filter become columns. A
// few rows at a time with all their taps: they come from memory, one behind the other.
template <class T>
Packed<T> pack_forward(const FilterShape& g, const T* filter, const at::Tensor& made) {
  const Pack kernels = pack();
  const int64_t row = g.row(), taps = g.taps();
  // Pairs of input channels travel as one number.
  const int64_t k = round_up(g.in_group, kPair<T>), numbers = k / kPair<T>;
  const bool odd = k != g.in_group;
  return pack_weights<T>(
      g, g.in_group, g.out_group, made, [&](int64_t group, const Columns& c, T* to) {
        for (int64_t n = 0; n < c.count; n += 16) {
          const int64_t rows = std::min<int64_t>(16, c.count - n);
          const T* from = filter + (group * g.out_group + c.begin + n) * row;
          for (int64_t tap = 0; tap < taps; ++tap) {
            T* block = to + tap * k * c.count + n * kPair<T>;
            if (!odd) {
              kernels.transpose32(reinterpret_cast<const uint32_t*>(from + tap * g.in_group),
                                  row / kPair<T>, rows, numbers, reinterpret_cast<uint32_t*>(block),
                                  c.count);
              continue;
            }
            for (int64_t i = 0; i < k; ++i)
              for (int64_t r = 0; r < rows; ++r)
                block[i / 2 * 2 * c.count + 2 * r + i % 2] =
                    i < g.in_group ? from[r * row + tap * g.in_group + i] : T{};
          }
        }
      });
}

// For the gradient of x, k are output and n input channels.
template <class T>
Packed<T> pack_backward(const FilterShape& g, const T* filter) {
  const Pack kernels = pack();
  const int64_t row = g.row(), taps = g.taps();
  return pack_weights<T>(
      g, g.out_group, g.in_group, {}, [&](int64_t group, const Columns& c, T* to) {
        for (int64_t k = 0; k < g.out_group; k += kPair<T>)
          for (int64_t tap = 0; tap < taps; ++tap) {
            const T* from = filter + (group * g.out_group + k) * row + tap * g.in_group + c.begin;
            T* block = to + (tap * g.out_group + k) * c.count;
            if constexpr (std::is_same_v<T, float>)
              std::copy_n(from, c.count, block);
            else
              kernels.interleave(from, row, 2, c.count, block, c.count);
          }
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
void forward_chunk(const Geometry& g, const ConvSettings& s, const Chunk& c, const T* x,
                   const Packed<T>& b, const float* bias, T* y) {
  const Elementwise<T> kernels = elementwise<T>();
  const int64_t ld = g.groups * b.k, count = slots(g, c) - g.margin * g.row_slots;
  std::vector<Term<T>> terms;
  if (!g.margin && s.activation == Activation::none && ld == g.in) {
    terms.push_back({x + (c.image * g.out_height + c.y0) * g.out_width * g.in, 0});
  } else {
    const int64_t size = grid_slots(g, c) * ld;
    T* grid = thread_buffer<T>(Buffer::grid, g.phases() * size);
    for (int64_t phase = 0; phase < g.phases(); ++phase)
      fill_grid<T>(g, c, {x, g.height, g.width, g.in, g.stride, phase / g.stride, phase % g.stride},
                   s.activation, grid + phase * size, ld);
    for (const Tap& tap : g.places)
      terms.push_back(
          {grid + tap.phase * size + (g.front() + tap.shift) * ld, &tap - g.places.data()});
  }
  products<T>(
      b, g.groups, terms, ld, count,
      [&](int64_t group, const Columns& columns, int64_t from, int64_t to, float* tile) {
        const int64_t channel = group * g.out_group + columns.begin;
        for_runs(
            g, c, from, to, [&](int64_t at, int64_t image, int64_t row, int64_t column, int64_t n) {
              const int64_t pixel = (image * g.out_height + row) * g.out_width + column;
              kernels.add_bias(s.behind, tile + at * columns.count, columns.count, bias + channel,
                               y + pixel * g.out + channel, g.out, n, columns.count);
            });
      });
}

template <class T>
at::Tensor forward(const ConvSettings& s, const at::Tensor& x, const at::Tensor& filter,
                   const at::Tensor& bias, const at::Tensor& packed) {
  const Geometry g = geometry(s, x, filter);
  at::Tensor y = at::empty({g.batch, g.out, g.out_height, g.out_width}, x.options(),
                           at::MemoryFormat::ChannelsLast);
  const Packed<T> b = pack_forward<T>(g, data<T>(filter), packed);
  const std::vector<Chunk> all =
      chunks(g, g.phases() * g.groups * b.k * static_cast<int64_t>(sizeof(T)), true);
  at::parallel_for(0, static_cast<int64_t>(all.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      forward_chunk<T>(g, s, all[static_cast<size_t>(i)], data<T>(x), b, data<float>(bias),
                       mutable_data<T>(y));
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
  const int64_t count = slots(g, c) - g.margin * g.row_slots;
  for (int64_t phase = 0; phase < g.phases(); ++phase) {
    const int64_t row0 = phase / g.stride, column0 = phase % g.stride;
    std::vector<Term<T>> terms;
    for (const Tap& tap : g.places)
      if (tap.phase == phase)
        terms.push_back({d_grid + (g.front() - tap.shift) * g.out, &tap - g.places.data()});
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

// The gradient of a block of filters, products over all slots, and then finish(first filter,
// filters, rows). Where there are fewer blocks than threads, each thread has its share of the
// slots.
template <class T, class Finish>
void filter_products(const Geometry& g, const FilterOperands<T>& o, const Finish& finish) {
  constexpr int64_t kFilters = 64;
  const int64_t depth = g.margin ? 1024 : 2048;  // slots a product: both operands stay in cache
  const int64_t row = g.row();
  const int64_t blocks = (g.out_group + kFilters - 1) / kFilters, tasks = g.groups * blocks;
  const int64_t steps = (o.length + depth - 1) / depth;
  const int64_t shares = std::clamp<int64_t>(at::get_num_threads() / tasks, 1, steps);
  const std::vector<Columns> columns = column_blocks(g.in_group);
  struct Block {
    int64_t group, filter, filters;
  };
  const auto block = [&](int64_t task) {
    const int64_t group = task / blocks, filter = group * g.out_group + task % blocks * kFilters;
    return Block{group, filter, std::min(kFilters, (group + 1) * g.out_group - filter)};
  };
  const auto multiply = [&](const Block& b, int64_t first, int64_t last, float* rows) {
    for (const Columns& c : columns) {
      const int64_t channel = b.group * g.in_group + c.begin;
      for (int64_t from = first * depth; from < std::min(last * depth, o.length); from += depth)
        for (const Tap& tap : g.places)
          product(b.filters, c.count, std::min(depth, o.length - from),
                  data<T>(o.d_y) + b.filter * o.d_y_length + g.front() + from - tap.shift,
                  o.d_y_length,
                  data<T>(o.x) + (tap.phase * o.length + from) * o.channels + channel * kPair<T>,
                  o.channels, rows + (&tap - g.places.data()) * g.in_group + c.begin, row,
                  from > first * depth);
    }
    end_products<T>();
  };
  if (shares == 1)
    return for_tasks(tasks, [&](int64_t i) {
      const Block b = block(i);
      float* rows = thread_buffer<float>(Buffer::tile, b.filters * row);
      multiply(b, 0, steps, rows);
      finish(b.filter, b.filters, rows);
    });
  at::Tensor sums = at::empty({tasks, shares, kFilters * row}, at::kFloat);
  const auto rows_of = [&](int64_t i) { return sums.data_ptr<float>() + i * kFilters * row; };
  for_tasks(tasks * shares, [&](int64_t i) {
    const int64_t share = i % shares;
    multiply(block(i / shares), share * steps / shares, (share + 1) * steps / shares, rows_of(i));
  });
  for (int64_t i = 0; i < tasks; ++i) {
    const Block b = block(i);
    for (int64_t share = 1; share < shares; ++share)
      rows<float>().add(rows_of(i * shares), rows_of(i * shares + share), b.filters * row);
    finish(b.filter, b.filters, rows_of(i * shares));
  }
}

// The chunks of a backward pass come in parts whose operands fit this many bytes.
constexpr int64_t kOperandBytes = int64_t{16} << 20;

template <class T>
ConvGradients backward(const ConvSettings& s, const at::Tensor& d_y, const at::Tensor& x,
                       const at::Tensor& filter, bool wants_x, const FilterSink& sink) {
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
  std::vector<float> sums(static_cast<size_t>(count * g.out));

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
        elementwise<T>().column_sums(core, g.out, slots(g, c), g.out, sums.data() + i * g.out);
        if (wants_x)
          backward_chunk<T>(g, s.activation, c, d_grid, data<T>(x), b, mutable_data<T>(result.x));
        gather_operands<T>(g, s.activation, c, starts[static_cast<size_t>(i - first)], data<T>(x),
                           core, o);
      }
      end_products<T>();
    });
    const bool first_part = first == 0, last_part = last == count;
    filter_products<T>(g, o, [&](int64_t from, int64_t filters, float* rows) {
      sink(from, filters, rows, first_part, last_part);
    });
  }
  result.bias = at::empty({g.out}, at::kFloat);
  std::copy_n(sums.data(), g.out, result.bias.data_ptr<float>());
  for (int64_t i = 1; i < count; ++i)
    rows<float>().add(result.bias.data_ptr<float>(), sums.data() + i * g.out, g.out);
  return result;
}

// ---------------------------------------------------------------- backward, dense, in float
// Of 1 x 1 filters in one group the gradients are plain products of whole matrices. libtorch's rate
// for these in float is that of the machine; gathering operands for small ones costs a quarter.
bool is_dense(const ConvSettings& s, const at::Tensor& filter) {
  return filter.scalar_type() == at::kFloat && filter.size(1) == 1 && s.groups == 1;
}

// work(first row, rows), in parallel, for pieces of `rows` rows of n numbers that stay in the
// cache.
template <class Work>
void for_row_pieces(int64_t rows, int64_t n, const Work& work) {
  const int64_t step = std::max<int64_t>(1, 32768 / n);
  for_tasks((rows + step - 1) / step,
            [&](int64_t i) { work(i * step, std::min(step, rows - i * step)); });
}

ConvGradients dense_backward(const ConvSettings& s, const at::Tensor& d_y, const at::Tensor& x,
                             const at::Tensor& filter, bool wants_x, const FilterSink& sink) {
  constexpr int64_t kFilters = 64;
  const Elementwise<float> kernels = elementwise<float>();
  const int64_t in = x.size(1), out = d_y.size(1), rows = x.numel() / in;
  const auto matrix = [](const at::Tensor& t) {
    return t.permute({0, 2, 3, 1}).reshape({-1, t.size(1)});
  };
  const at::Tensor d_y_rows = matrix(d_y), x_rows = matrix(x);
  const bool activated = s.activation != Activation::none;
  at::Tensor operand = activated ? at::empty({rows, in}, at::kFloat) : x_rows;
  if (activated)
    for_row_pieces(rows, in, [&](int64_t first, int64_t count) {
      kernels.activate(s.activation, data<float>(x_rows) + first * in, in,
                       mutable_data<float>(operand) + first * in, in, count, in);
    });
  const at::Tensor d_filter = at::mm(d_y_rows.t(), operand);
  for_tasks((out + kFilters - 1) / kFilters, [&](int64_t i) {
    const int64_t first = i * kFilters;
    sink(first, std::min(kFilters, out - first), mutable_data<float>(d_filter) + first * in, true,
         true);
  });
  ConvGradients result;
  result.bias = at::sum(d_y_rows, {0});
  if (!wants_x) return result;
  result.x = at::empty_like(x, at::TensorOptions(), at::MemoryFormat::ChannelsLast);
  at::Tensor d_x = matrix(result.x);
  at::mm_out(d_x, d_y_rows, filter.view({out, in}));
  if (activated)
    for_row_pieces(rows, in, [&](int64_t first, int64_t count) {
      float* d = mutable_data<float>(d_x) + first * in;
      kernels.activate_backward(s.activation, d, in, data<float>(x_rows) + first * in, in, d, in,
                                count, in);
    });
  return result;
}

}  // namespace

bool has_convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t groups) {
  const bool sides = kernel == 1 ? stride == 1 : kernel == 3 && stride <= 2;
  // Products of bfloat16 take pairs of channels; the grid pads the odd one of an input alone.
  return sides && out / groups % 2 == 0 && (in / groups % 2 == 0 || (groups == 1 && kernel == 3));
}

at::Tensor conv_forward(const ConvSettings& s, const at::Tensor& x, const at::Tensor& filter,
                        const at::Tensor& bias, const at::Tensor& packed) {
  return x.scalar_type() == at::kFloat ? forward<float>(s, x, filter, bias, packed)
                                       : forward<Bf16>(s, x, filter, bias, packed);
}

at::Tensor pack_filter(const at::Tensor& filter, int64_t groups) {
  const FilterShape shape(filter, groups);
  return filter.scalar_type() == at::kFloat
             ? pack_forward<float>(shape, data<float>(filter), {}).memory
             : pack_forward<Bf16>(shape, data<Bf16>(filter), {}).memory;
}

ConvGradients conv_backward(const ConvSettings& s, const at::Tensor& d_y, const at::Tensor& x,
                            const at::Tensor& filter, bool wants_x, const FilterSink& sink) {
  if (is_dense(s, filter)) return dense_backward(s, d_y, x, filter, wants_x, sink);
  return x.scalar_type() == at::kFloat ? backward<float>(s, d_y, x, filter, wants_x, sink)
                                       : backward<Bf16>(s, d_y, x, filter, wants_x, sink);
}

}  // namespace nfscale
