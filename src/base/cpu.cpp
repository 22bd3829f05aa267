#include "base/cpu.h"

#include <cpuid.h>

namespace nfscale {

std::string isa_level() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  if (avx512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1)) return "amx";
  if (avx512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1)) return "avx512-bf16";
  if (avx512) return "avx512";
  return __builtin_cpu_supports("avx2") ? "avx2" : "scalar";
}

std::string cpu_precision() {
  const std::string level = isa_level();
  return level == "amx" || level == "avx512-bf16" ? "bf16" : "f32";
}

}  // namespace nfscale
