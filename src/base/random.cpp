#include "base/random.h"

#include <cmath>
#include <numbers>

namespace nfscale {

Words philox4x32(Words c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    if (round > 0) {
      k[0] += 0x9E3779B9u;
      k[1] += 0xBB67AE85u;
    }
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
  }
  return c;
}

Words words(uint64_t seed, Op op, uint64_t example, uint32_t epoch, uint32_t copy, uint32_t block) {
  const Words counter = {static_cast<uint32_t>(example),
                         static_cast<uint32_t>(example >> 32) | copy << 16, epoch,
                         static_cast<uint32_t>(op) | block << 16};
  return philox4x32(counter, {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

std::pair<double, double> normal_pair(uint32_t a, uint32_t b) {
  // The middle of each of the 2^32 cells, so that the logarithm is finite.
  const double u = (a + 0.5) * 0x1p-32, v = (b + 0.5) * 0x1p-32;
  const double radius = std::sqrt(-2 * std::log(u)), angle = 2 * std::numbers::pi * v;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

uint64_t mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace nfscale
