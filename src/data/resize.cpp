#include "data/resize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace nfscale {
namespace {

constexpr int kBits = 22;

// Output i is the sum of weight[i * most ...] times count[i] inputs from first[i] on.
struct Taps {
  int64_t most = 0;
  std::vector<int64_t> first, count;
  std::vector<int32_t> weight;
};

double filter_value(Filter filter, double t) {
  t = std::abs(t);
  if (filter == Filter::bilinear) return t < 1 ? 1 - t : 0;
  constexpr double a = -0.5;
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}

// For the `count` outputs from `begin` on, of `out` in all.
Taps make_taps(int64_t in, int64_t out, int64_t begin, int64_t count, Filter filter) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double stretch = std::max(scale, 1.0), inverse = 1 / stretch;
  const double support = (filter == Filter::bicubic ? 2.0 : 1.0) * stretch;
  Taps taps;
  taps.most = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  taps.weight.resize(static_cast<size_t>(count * taps.most));
  std::vector<double> w;
  for (int64_t i = begin; i < begin + count; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const int64_t low = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t high = std::min(in, static_cast<int64_t>(center + support + 0.5));
    w.clear();
    double total = 0;
    for (int64_t x = low; x < high; ++x) {
      w.push_back(filter_value(filter, (static_cast<double>(x) - center + 0.5) * inverse));
      total += w.back();
    }
    NFSCALE_CHECK(static_cast<int64_t>(w.size()) <= taps.most);
    int32_t* to = taps.weight.data() + (i - begin) * taps.most;
    for (const double v : w) {
      const double part = total != 0 ? v / total : v;
      *to++ = static_cast<int32_t>(part * (1 << kBits) + (part >= 0 ? 0.5 : -0.5));
    }
    taps.first.push_back(low);
    taps.count.push_back(high - low);
  }
  return taps;
}

uint8_t rounded(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255));
}
constexpr int32_t kHalf = 1 << (kBits - 1);

// `rows` of `in`, cut to its columns, each to taps.first.size() pixels.
Picture horizontal(const Picture& in, const Box& rows, const Taps& taps) {
  Picture out(static_cast<int64_t>(taps.first.size()), rows.height);
  uint8_t* to = out.rgb.data();
  for (int64_t y = 0; y < rows.height; ++y) {
    const uint8_t* row = in.rgb.data() + 3 * ((rows.y + y) * in.width + rows.x);
    const int32_t* weight = taps.weight.data();
    for (size_t i = 0; i < taps.first.size(); ++i, to += 3, weight += taps.most) {
      const uint8_t* from = row + 3 * taps.first[i];
      int32_t r = kHalf, g = kHalf, b = kHalf;
      for (int64_t k = 0; k < taps.count[i]; ++k, from += 3) {
        r += weight[k] * from[0];
        g += weight[k] * from[1];
        b += weight[k] * from[2];
      }
      to[0] = rounded(r);
      to[1] = rounded(g);
      to[2] = rounded(b);
    }
  }
  return out;
}

// `in` begins with input row `begin`.
Picture vertical(const Picture& in, int64_t begin, const Taps& taps) {
  Picture out(in.width, static_cast<int64_t>(taps.first.size()));
  const size_t stride = static_cast<size_t>(in.width) * 3;
  std::vector<int32_t> sums(stride);
  uint8_t* to = out.rgb.data();
  const int32_t* weight = taps.weight.data();
  for (size_t i = 0; i < taps.first.size(); ++i, weight += taps.most) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const uint8_t* from = in.rgb.data() + static_cast<size_t>(taps.first[i] - begin) * stride;
    for (int64_t k = 0; k < taps.count[i]; ++k, from += stride)
      for (size_t x = 0; x < stride; ++x) sums[x] += weight[k] * from[x];
    for (const int32_t sum : sums) *to++ = rounded(sum);
  }
  return out;
}

Picture cut(const Picture& in, const Box& box) {
  Picture out(box.width, box.height);
  for (int64_t y = 0; y < box.height; ++y)
    std::copy_n(in.rgb.data() + 3 * ((box.y + y) * in.width + box.x), 3 * box.width,
                out.rgb.data() + 3 * y * box.width);
  return out;
}

bool within(const Box& box, int64_t width, int64_t height) {
  return box.x >= 0 && box.y >= 0 && box.width >= 1 && box.height >= 1 &&
         box.x + box.width <= width && box.y + box.height <= height;
}

}  // namespace

Picture resize(const Picture& picture, const Box& box, int64_t width, int64_t height,
               Filter filter) {
  return resize_part(picture, box, width, height, {0, 0, width, height}, filter);
}

Picture resize_part(const Picture& picture, const Box& box, int64_t width, int64_t height,
                    const Box& part, Filter filter) {
  NFSCALE_CHECK(within(box, picture.width, picture.height) && within(part, width, height));
  Taps down;
  int64_t first = part.y, last = part.y + part.height;  // rows of the box that are needed
  if (box.height != height) {
    down = make_taps(box.height, height, part.y, part.height, filter);
    first = down.first.front();
    last = down.first.back() + down.count.back();
  }
  const Box rows = {box.x, box.y + first, box.width, last - first};
  Picture out =
      box.width == width
          ? cut(picture, {rows.x + part.x, rows.y, part.width, rows.height})
          : horizontal(picture, rows, make_taps(box.width, width, part.x, part.width, filter));
  return box.height == height ? out : vertical(out, first, down);
}

}  // namespace nfscale
