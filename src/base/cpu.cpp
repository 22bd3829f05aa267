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

std::string processor_name() {
  constexpr unsigned kFirst = 0x80000002;  // three leaves of the brand string
  unsigned words[13] = {};
  for (unsigned i = 0; i < 3; ++i)
    if (!__get_cpuid(kFirst + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                     &words[4 * i + 3]))
      return "CPU";
  std::string name(reinterpret_cast<const char*>(words));
  const size_t first = name.find_first_not_of(' '), last = name.find_last_not_of(' ');
  return first == std::string::npos ? "CPU" : name.substr(first, last - first + 1);
}

std::string cpu_precision() {
  const std::string level = isa_level();
  return level == "amx" || level == "avx512-bf16" ? "bf16" : "f32";
}

}  // namespace nfscale
