#include "model/pool.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include "kernels/elementwise.h"
#include "model/parallel.h"
#include "model/products.h"

namespace nfscale {
namespace {

// The pixels of windows of one row that lie at (row, column) of their windows.
struct Part {
  int64_t pixel, count;  // the first pixel, how many windows have one
};

struct Windows {
  int64_t batch, channels, height, width, out_height, out_width;

  explicit Windows(const at::Tensor& x)
      : batch(x.size(0)),
        channels(x.size(1)),
        height(x.size(2)),
        width(x.size(3)),
        out_height((height + 1) / 2),
        out_width((width + 1) / 2) {}

  int64_t rows(int64_t y) const { return std::min<int64_t>(2, height - 2 * y); }
  Part part(int64_t image, int64_t y, int64_t row, int64_t column) const {
    return {(image * height + 2 * y + row) * width + column, (width - column + 1) / 2};
  }
  // Rows of windows in parallel: work(image, y, tile of one row in float).
  template <class Work>
  void for_rows(const Work& work) const {
    const int64_t size = out_width * channels;
    at::parallel_for(0, batch * out_height, std::max<int64_t>(1, 4096 / size),
                     [&](int64_t begin, int64_t end) {
                       std::vector<float> tile(static_cast<size_t>(size));
                       for (int64_t i = begin; i < end; ++i)
                         work(i / out_height, i % out_height, tile.data());
                     });
  }
};

template <class T>
void forward(Activation act, const Windows& w, const T* x, T* y_out) {
  const Elementwise<T> kernels = elementwise<T>();
  const int64_t c = w.channels;
  w.for_rows([&](int64_t image, int64_t y, float* tile) {
    std::fill_n(tile, w.out_width * c, 0.0f);
    const int64_t rows = w.rows(y), whole = w.width / 2;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < std::min<int64_t>(2, w.width); ++column) {
        const Part p = w.part(image, y, row, column);
        kernels.add_activated(act, 0.5f / static_cast<float>(rows), x + p.pixel * c, 2 * c, tile, c,
                              whole, c);
        if (p.count > whole)  // a window of one column
          kernels.add_activated(act, 1.0f / static_cast<float>(rows), x + (p.pixel + 2 * whole) * c,
                                c, tile + whole * c, c, 1, c);
      }
    T* out = y_out + (image * w.out_height + y) * w.out_width * c;
    kernels.activate_backward(Activation::none, tile, c, nullptr, c, out, c, w.out_width, c);
  });
}

template <class T>
void backward(Activation act, const Windows& w, const T* d_y, const T* x, T* d_x) {
  const Elementwise<T> kernels = elementwise<T>();
  const int64_t c = w.channels;
  w.for_rows([&](int64_t image, int64_t y, float* tile) {
    std::fill_n(tile, w.out_width * c, 0.0f);
    const int64_t rows = w.rows(y), whole = w.width / 2;
    const T* d = d_y + (image * w.out_height + y) * w.out_width * c;
    kernels.add_activated(Activation::none, 0.5f / static_cast<float>(rows), d, c, tile, c, whole,
                          c);
    if (w.out_width > whole)
      kernels.add_activated(Activation::none, 1.0f / static_cast<float>(rows), d + whole * c, c,
                            tile + whole * c, c, 1, c);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < std::min<int64_t>(2, w.width); ++column) {
        const Part p = w.part(image, y, row, column);
        kernels.activate_backward(act, tile, c, x + p.pixel * c, 2 * c, d_x + p.pixel * c, 2 * c,
                                  p.count, c);
      }
  });
}

}  // namespace

at::Tensor pool_forward(Activation act, const at::Tensor& x) {
  const Windows w(x);
  at::Tensor y = at::empty({w.batch, w.channels, w.out_height, w.out_width}, x.options(),
                           at::MemoryFormat::ChannelsLast);
  for_type(x, [&]<class T>(T) { forward(act, w, data<T>(x), mutable_data<T>(y)); });
  return y;
}

at::Tensor pool_backward(Activation act, const at::Tensor& d_y, const at::Tensor& x) {
  const Windows w(x);
  at::Tensor d_x = at::empty_like(x);
  for_type(x,
           [&]<class T>(T) { backward(act, w, data<T>(d_y), data<T>(x), mutable_data<T>(d_x)); });
  return d_x;
}

at::Tensor mean_forward(Activation act, const at::Tensor& x) {
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
  at::Tensor y = at::zeros({x.size(0), channels}, at::kFloat);
  for_type(x, [&]<class T>(T) {
    for_examples(x, [&](int64_t at, int64_t row) {
      elementwise<T>().add_activated(act, 1.0f / static_cast<float>(pixels), data<T>(x) + at,
                                     channels, y.data_ptr<float>() + row, 0, pixels, channels);
    });
  });
  return y;
}

at::Tensor mean_backward(Activation act, const at::Tensor& d_y, const at::Tensor& x) {
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
  const at::Tensor d = d_y / static_cast<double>(pixels);
  at::Tensor d_x = at::empty_like(x);
  for_type(x, [&]<class T>(T) {
    for_examples(x, [&](int64_t at, int64_t row) {
      elementwise<T>().activate_backward(act, d.const_data_ptr<float>() + row, 0, data<T>(x) + at,
                                         channels, mutable_data<T>(d_x) + at, channels, pixels,
                                         channels);
    });
  });
  return d_x;
}

}  // namespace nfscale
