// Precompiled for everything that sees a tensor. Operations are included one by one
// (ATen/ops/NAME.h) by the files that use them; <torch/torch.h> would take 15 s a file.
#pragma once

#define AT_PER_OPERATOR_HEADERS
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/pch.h"
