#include "base/hash.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <openssl/evp.h>
#include <xxhash.h>

#include <array>

#include "base/error.h"

namespace nfscale {

namespace {

std::string hex(XXH128_hash_t h) {
  return fmt::format("{:016x}{:016x}", h.high64, h.low64);
}

// OpenSSL's name for an algorithm of Python's hashlib; empty for others.
std::string openssl_name(std::string_view algorithm) {
  if (algorithm == "blake2b") return "blake2b512";
  if (algorithm == "blake2s") return "blake2s256";
  std::string name(algorithm);
  if (name.starts_with("sha3_")) name[4] = '-';
  for (const std::string_view known : {"md5", "sha1", "sha224", "sha256", "sha384", "sha512",
                                       "sha3-224", "sha3-256", "sha3-384", "sha3-512"})
    if (name == known) return name;
  return "";
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

std::optional<std::string> checksum(std::string_view algorithm, std::string_view bytes) {
  if (algorithm == "xxh32") return fmt::format("{:08x}", XXH32(bytes.data(), bytes.size(), 0));
  if (algorithm == "xxh64") return fmt::format("{:016x}", XXH64(bytes.data(), bytes.size(), 0));
  if (algorithm == "xxh3_64") return fmt::format("{:016x}", hash64(bytes));
  if (algorithm == "xxh128" || algorithm == "xxh3_128") return hash128(bytes);
  const std::string name = openssl_name(algorithm);
  if (name.empty()) return std::nullopt;
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  const EVP_MD* method = ::EVP_get_digestbyname(name.c_str());
  // A system may forbid the weak ones.
  if (method == nullptr ||
      ::EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, method, nullptr) != 1)
    return std::nullopt;
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256(std::string_view bytes) {
  return checksum("sha256", bytes).value();
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
