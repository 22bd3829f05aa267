// Loops over libtorch's threads.
#pragma once

#include <atomic>

#include "model/pch.h"

namespace nfscale {

// work(i) for every i of [0, count), each when a thread is free: for tasks of unequal length.
template <class Work>
void for_tasks(int64_t count, const Work& work) {
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next++) < count;) work(i);
  });
}

// Examples in parallel: work(first number of the example in x [N, C, H, W], its row in [N, C]).
template <class Work>
void for_examples(const at::Tensor& x, const Work& work) {
  const int64_t size = x.numel() / x.size(0);
  at::parallel_for(0, x.size(0), std::max<int64_t>(1, 16384 / size),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t n = begin; n < end; ++n) work(n * size, n * x.size(1));
                   });
}

}  // namespace nfscale
