// What this processor computes in.
#pragma once

#include <string>

namespace nfscale {

// "amx", "avx512-bf16", "avx512", "avx2" or "scalar".
std::string isa_level();

// As its maker calls it; "CPU" where the system does not say.
std::string processor_name();

// bf16 where the processor multiplies it (AVX512-BF16, AMX), else f32.
std::string cpu_precision();

}  // namespace nfscale
