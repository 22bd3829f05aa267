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

}  // namespace nfscale
