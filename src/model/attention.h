// Attention of several heads over small matrices, one head of one picture at a time, on the CPU.
// All scores of some queries are there at once: no running softmax, and the backward pass makes
// them again instead of keeping them.
#pragma once

#include "model/pch.h"

namespace nfscale {

// softmax(q k^T / sqrt(W)) v for heads of W channels, head by head; q [N, T, D], k and v [N, S, D]
// may be parts of wider rows: channels lie beside each other, rows and pictures anywhere. float or
// bfloat16.
struct Attention {
  at::Tensor q, k, v;
  int64_t heads = 1;
};

// Whether heads of W channels are made for it.
bool has_attention(int64_t width);

struct AttentionResult {
  at::Tensor out;       // [N, T, D]
  at::Tensor log_sums;  // [N, H, T], float
};
AttentionResult attention_forward(const Attention& a);

// The gradients of q, k, v, written into `d`, whose tensors have the sides of those in `a`.
void attention_backward(const at::Tensor& d_out, const Attention& a, const at::Tensor& log_sums,
                        const Attention& d);

}  // namespace nfscale
