#include "base/hash.h"

#include <gtest/gtest.h>

namespace nfscale {
namespace {

// Examples of FIPS 180-4 as NIST publishes them (SHA256.pdf), and one long message.
TEST(Hash, Sha256GivesThePublishedValues) {
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Lengths around the end of a block, where padding goes wrong; values of coreutils' sha256sum.
TEST(Hash, Sha256PadsWhereABlockEnds) {
  EXPECT_EQ(sha256(std::string(55, 'x')),
            "d5e285683cd4efc02d021a5c62014694958901005d6f71e89e0989fac77e4072");
  EXPECT_EQ(sha256(std::string(56, 'x')),
            "04c26261370ee7541549d16dee320c723e3fd14671e66a099afe0a377c16888e");
  EXPECT_EQ(sha256(std::string(63, 'x')),
            "75220b47218278e656f2013bb8f0c455a25eaf01e86c64924e9d48d89776d6f2");
  EXPECT_EQ(sha256(std::string(64, 'x')),
            "7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c");
}

// Values of Python's hashlib and xxhash 3.
TEST(Hash, ChecksumsAreThoseOfOtherPrograms) {
  const auto of = [](const char* algorithm) { return checksum(algorithm, "abc").value(); };
  EXPECT_EQ(of("md5"), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(of("sha1"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(of("sha512"),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
  EXPECT_EQ(of("blake2b"),
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
            "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923");
  EXPECT_EQ(of("blake2s"), "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
  EXPECT_EQ(of("sha3_256"), "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532");
  EXPECT_EQ(of("xxh32"), "32d153ff");
  EXPECT_EQ(of("xxh64"), "44bc2cf5ad770999");
  EXPECT_EQ(of("xxh128"), "06b05ab6733a618578af5f94892f3950");
  EXPECT_EQ(of("xxh3_64"), "78af5f94892f3950");
  EXPECT_EQ(of("xxh3_128"), "06b05ab6733a618578af5f94892f3950");
  EXPECT_FALSE(checksum("shake_128", "abc"));
  EXPECT_FALSE(checksum("", "abc"));
}

}  // namespace
}  // namespace nfscale
