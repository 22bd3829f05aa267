#include "model/attention.h"

#include <ATen/ops/empty.h>

#include <cmath>

#include "base/error.h"
#include "kernels/elementwise.h"
#include "kernels/pack.h"
#include "kernels/softmax.h"
#include "model/parallel.h"
#include "model/products.h"

namespace nfscale {
namespace {

struct Shape {
  int64_t batch, heads, queries, keys, width;
  int64_t rows;  // queries at a time
  int64_t ld;    // of scores
  float scale;
};

Shape shape_of(const Attention& a) {
  Shape s{};
  s.batch = a.q.size(0), s.heads = a.heads, s.queries = a.q.size(1), s.keys = a.k.size(1);
  s.width = a.q.size(2) / a.heads;
  NFSCALE_CHECK(has_attention(s.width));
  // About 64 queries, with as little as possible left over for the last ones.
  const int64_t blocks = (s.queries + 95) / 96;
  s.rows = std::min(s.queries, round_up((s.queries + blocks - 1) / blocks, 16));
  s.ld = round_up(s.keys, 16);
  s.scale = 1 / std::sqrt(static_cast<float>(s.width));
  return s;
}

// The matrix of a head of a picture, [rows, W] with rows `ld` apart.
template <class T>
struct HeadMatrix {
  T* p;
  int64_t ld;
};
template <class T>
HeadMatrix<T> head_of(const at::Tensor& t, const Shape& s, int64_t task) {
  NFSCALE_CHECK(t.stride(2) == 1);
  const int64_t picture = task / s.heads, head = task % s.heads;
  return {const_cast<T*>(data<T>(t)) + picture * t.stride(0) + head * s.width, t.stride(1)};
}

// Memory of one thread, handed out piece by piece.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : memory_(at::empty({bytes}, at::kByte)) {}
  template <class T>
  T* take(int64_t count) {
    T* p = reinterpret_cast<T*>(memory_.data_ptr<uint8_t>() + used_);
    used_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    NFSCALE_CHECK(used_ <= memory_.numel());
    return p;
  }

 private:
  at::Tensor memory_;
  int64_t used_ = 0;
};

// m as the right side of products: [rows, W] for sums over its rows, or turned, [W, rows], for
// those over its columns.
template <class T>
void pack_rows(const HeadMatrix<T>& m, int64_t rows, int64_t width, T* out) {
  if constexpr (kPair<T> == 2)
    pack().interleave(m.p, m.ld, rows, width, out, width);
  else
    for (int64_t r = 0; r < rows; ++r) std::copy_n(m.p + r * m.ld, width, out + r * width);
}
template <class T>
void pack_turned(const HeadMatrix<T>& m, int64_t rows, int64_t width, T* out) {
  pack().transpose32(reinterpret_cast<const uint32_t*>(m.p), m.ld / kPair<T>, rows,
                     width / kPair<T>, reinterpret_cast<uint32_t*>(out), rows);
}
// [rows, columns] turned, for the left side of products over `rows`; an odd last row gets a
// partner of zeros.
template <class T>
void turn(const T* x, int64_t ldx, int64_t rows, int64_t columns, T* out) {
  const int64_t ldo = round_up(rows, kPair<T>);
  if constexpr (kPair<T> == 2)
    pack().transpose16(reinterpret_cast<const uint16_t*>(x), ldx, rows, columns,
                       reinterpret_cast<uint16_t*>(out), ldo);
  else
    pack().transpose32(reinterpret_cast<const uint32_t*>(x), ldx, rows, columns,
                       reinterpret_cast<uint32_t*>(out), ldo);
  for (int64_t c = 0; ldo > rows && c < columns; ++c) out[c * ldo + rows] = T{};
}

template <class T>
void write(const float* tile, const HeadMatrix<T>& m, int64_t rows, int64_t width) {
  elementwise<T>().activate_backward(Activation::none, tile, width, nullptr, width, m.p, m.ld, rows,
                                     width);
}

// Columns behind the keys of tiles that products do not write.
void set_margin(float* tile, const Shape& s, float value) {
  for (int64_t r = 0; r < s.rows; ++r)
    std::fill(tile + r * s.ld + s.keys, tile + (r + 1) * s.ld, value);
}
constexpr float kNoScore = -1e30f;

template <class T>
class Forward {
 public:
  explicit Forward(const Shape& s)
      : s_(s),
        scratch_(4 * (s.rows * (s.ld * 2 + s.width) + 2 * s.width * (s.keys + 1)) + 64 * 8),
        scores_(scratch_.take<float>(s.rows * s.ld)),
        out_(scratch_.take<float>(s.rows * s.width)),
        p_(scratch_.take<T>(s.rows * s.ld)),
        keys_(scratch_.take<T>(s.width * s.keys)),
        values_(scratch_.take<T>(s.width * round_up(s.keys, kPair<T>))) {}

  void run(const HeadMatrix<T>& q, const HeadMatrix<T>& k, const HeadMatrix<T>& v,
           const HeadMatrix<T>& out, float* log_sums) {
    pack_turned(k, s_.keys, s_.width, keys_);
    pack_rows(v, s_.keys, s_.width, values_);
    for (int64_t at = 0; at < s_.queries; at += s_.rows) {
      const int64_t rows = std::min(s_.rows, s_.queries - at);
      set_margin(scores_, s_, kNoScore);
      product(rows, s_.keys, s_.width, q.p + at * q.ld, q.ld, keys_, s_.keys, scores_, s_.ld,
              false);
      softmax<T>().forward(scores_, s_.ld, rows, s_.scale, p_, log_sums + at);
      product(rows, s_.width, round_up(s_.keys, kPair<T>), p_, s_.ld, values_, s_.width, out_,
              s_.width, false);
      write(out_, HeadMatrix<T>{out.p + at * out.ld, out.ld}, rows, s_.width);
    }
  }

 private:
  const Shape& s_;
  Scratch scratch_;
  float *scores_, *out_;
  T *p_, *keys_, *values_;
};

template <class T>
class Backward {
 public:
  explicit Backward(const Shape& s)
      : s_(s),
        scratch_(4 * (6 * s.rows * s.ld + 8 * s.width * (s.keys + s.rows + 2) + 2 * s.ld) +
                 64 * 16),
        scores_(scratch_.take<float>(s.rows * s.ld)),
        d_p_(scratch_.take<float>(s.rows * s.ld)),
        d_q_(scratch_.take<float>(s.rows * s.width)),
        d_k_(scratch_.take<float>(s.keys * s.width)),
        d_v_(scratch_.take<float>(s.keys * s.width)),
        p_(scratch_.take<T>(s.rows * s.ld)),
        d_s_(scratch_.take<T>(s.rows * s.ld)),
        turned_(scratch_.take<T>(round_up(s.rows, kPair<T>) * s.keys)),
        keys_turned_(scratch_.take<T>(s.width * s.keys)),
        values_turned_(scratch_.take<T>(s.width * s.keys)),
        keys_(scratch_.take<T>(s.width * round_up(s.keys, kPair<T>))),
        some_(scratch_.take<T>(s.width * round_up(s.rows, kPair<T>))) {}

  void run(const HeadMatrix<T>& d_out, const HeadMatrix<T>& q, const HeadMatrix<T>& k,
           const HeadMatrix<T>& v, const float* log_sums, const HeadMatrix<T>& d_q,
           const HeadMatrix<T>& d_k, const HeadMatrix<T>& d_v) {
    const int64_t w = s_.width, keys = s_.keys;
    pack_turned(k, keys, w, keys_turned_);
    pack_turned(v, keys, w, values_turned_);
    pack_rows(k, keys, w, keys_);
    for (int64_t at = 0; at < s_.queries; at += s_.rows) {
      const int64_t rows = std::min(s_.rows, s_.queries - at), even = round_up(rows, kPair<T>);
      const HeadMatrix<T> some_q = {q.p + at * q.ld, q.ld},
                          some_d_out = {d_out.p + at * d_out.ld, d_out.ld};
      set_margin(scores_, s_, kNoScore);
      set_margin(d_p_, s_, 0);
      product(rows, keys, w, some_q.p, q.ld, keys_turned_, keys, scores_, s_.ld, false);
      product(rows, keys, w, some_d_out.p, d_out.ld, values_turned_, keys, d_p_, s_.ld, false);
      softmax<T>().backward(scores_, d_p_, s_.ld, rows, s_.scale, log_sums + at, p_, d_s_);
      product(rows, w, round_up(keys, kPair<T>), d_s_, s_.ld, keys_, w, d_q_, w, false);
      write(d_q_, HeadMatrix<T>{d_q.p + at * d_q.ld, d_q.ld}, rows, w);
      turn(p_, s_.ld, rows, keys, turned_);
      pack_rows(some_d_out, rows, w, some_);
      product(keys, w, even, turned_, even, some_, w, d_v_, w, at > 0);
      turn(d_s_, s_.ld, rows, keys, turned_);
      pack_rows(some_q, rows, w, some_);
      product(keys, w, even, turned_, even, some_, w, d_k_, w, at > 0);
    }
    write(d_k_, d_k, keys, w);
    write(d_v_, d_v, keys, w);
  }

 private:
  const Shape& s_;
  Scratch scratch_;
  float *scores_, *d_p_, *d_q_, *d_k_, *d_v_;
  T *p_, *d_s_, *turned_, *keys_turned_, *values_turned_, *keys_, *some_;
};

// run(state of the thread, head of a picture), for all of them.
template <class T, template <class> class State, class Run>
void for_heads(const Shape& s, const Run& run) {
  at::parallel_for(0, s.batch * s.heads, 1, [&](int64_t begin, int64_t end) {
    State<T> state(s);
    for (int64_t task = begin; task < end; ++task) run(state, task);
    end_products<T>();
  });
}

}  // namespace

bool has_attention(int64_t width) {
  return width % 2 == 0;  // products of bfloat16 take pairs of channels
}

AttentionResult attention_forward(const Attention& a) {
  const Shape s = shape_of(a);
  AttentionResult r = {at::empty({s.batch, s.queries, a.q.size(2)}, a.q.options()),
                       at::empty({s.batch, s.heads, s.queries}, at::kFloat)};
  float* log_sums = r.log_sums.data_ptr<float>();
  for_type(a.q, [&]<class T>(T) {
    for_heads<T, Forward>(s, [&](Forward<T>& state, int64_t task) {
      state.run(head_of<T>(a.q, s, task), head_of<T>(a.k, s, task), head_of<T>(a.v, s, task),
                head_of<T>(r.out, s, task), log_sums + task * s.queries);
    });
  });
  return r;
}

void attention_backward(const at::Tensor& d_out, const Attention& a, const at::Tensor& log_sums,
                        const Attention& d) {
  const Shape s = shape_of(a);
  const float* sums = log_sums.const_data_ptr<float>();
  for_type(a.q, [&]<class T>(T) {
    for_heads<T, Backward>(s, [&](Backward<T>& state, int64_t task) {
      const auto head = [&](const at::Tensor& t) { return head_of<T>(t, s, task); };
      state.run(head(d_out), head(a.q), head(a.k), head(a.v), sums + task * s.queries, head(d.q),
                head(d.k), head(d.v));
    });
  });
}

}  // namespace nfscale
