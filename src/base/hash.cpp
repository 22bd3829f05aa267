#include "base/hash.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

namespace nfscale {

namespace {
std::string hex(XXH128_hash_t h) {
  return fmt::format("{:016x}{:016x}", h.high64, h.low64);
}
}  // namespace

struct Hasher::State {
  XXH3_state_t xxh;
};

uint64_t hash64(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}
std::string hash128(std::span<const std::byte> bytes) {
  return hex(XXH3_128bits(bytes.data(), bytes.size()));
}
std::string hash128(std::string_view bytes) {
  return hex(XXH3_128bits(bytes.data(), bytes.size()));
}

Hasher::Hasher() : state_(new State) {
  XXH3_128bits_reset(&state_->xxh);
}
Hasher::~Hasher() = default;
void Hasher::add(std::span<const std::byte> b) {
  XXH3_128bits_update(&state_->xxh, b.data(), b.size());
}
void Hasher::add(std::string_view t) {
  XXH3_128bits_update(&state_->xxh, t.data(), t.size());
}
void Hasher::add(uint64_t number) {
  unsigned char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(number >> (8 * i));
  XXH3_128bits_update(&state_->xxh, bytes, sizeof bytes);
}
std::string Hasher::digest() const {
  return hex(XXH3_128bits_digest(&state_->xxh));
}

}  // namespace nfscale
