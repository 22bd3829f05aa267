// XXH3, the one hash for files, identities and keys; SHA-256 for seals; others for the checksums
// that data sets bring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace nfscale {

uint64_t hash64(std::string_view bytes);
std::string hash128(std::span<const std::byte> bytes);  // 32 hexadecimal digits
std::string hash128(std::string_view bytes);

// FIPS 180-4, 64 hexadecimal digits: for what others are to check with tools of their own.
std::string sha256(std::string_view bytes);

// Hexadecimal digits by an algorithm of Python's hashlib and xxhash, as data sets name it ("sha1",
// "xxh64"); nothing for names that are not known.
std::optional<std::string> checksum(std::string_view algorithm, std::string_view bytes);

// The same as hash128 over bytes that come in parts.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);
  void add(uint64_t number);  // as 8 little-endian bytes
  std::string digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nfscale
