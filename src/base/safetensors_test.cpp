#include "base/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

namespace nfscale {
namespace {

Path scratch() {
  return std::filesystem::temp_directory_path() / fmt::format("nfscale-{}.safetensors", ::getpid());
}

// A file with this header and as many bytes of data; what reading it says, empty if it is accepted.
std::string verdict(const std::string& header, size_t data) {
  const Path path = scratch();
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  std::ofstream(path, std::ios::binary) << bytes << header << std::string(data, '\1');
  std::string said;
  try {
    read_safetensors(path);
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    said = e.what();
    EXPECT_TRUE(said.starts_with(path.string())) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos);
  }
  std::filesystem::remove(path);
  return said;
}

constexpr const char* kOne = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";

std::string object(const std::string& members) {
  return "{" + members + "}";
}

// A key that comes twice smuggles a second tensor past readers that take the last one.
TEST(Safetensors, DoubledKeysAreRefusedEqualOrNot) {
  EXPECT_NE(verdict(object(std::string(kOne) + "," + kOne), 8).find("twice"), std::string::npos);
  EXPECT_NE(verdict(object(std::string(kOne) +
                           R"(,"a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]})"),
                    12),
            "");
}

TEST(Safetensors, HostileHeadersAreRefused) {
  EXPECT_EQ(verdict(object(kOne), 8), "");
  const std::string two = std::string(kOne) + ",";
  for (const std::string& bad :
       {object(two + R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})"),  // the same bytes
        object(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]})"),
        object(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[4,8]})"),
        object(R"("a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,8]})"),
        object(R"("a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"),
        object(R"("a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]})"),
        object(R"("a":{"dtype":"Q7","shape":[2],"data_offsets":[0,8]})"),
        object(R"("a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"),
        object(R"("a":{"dtype":"F32","shape":[2]})"), object(two + R"("__metadata__":{"epoch":3})"),
        object(two + "\"\xff\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]}"),
        std::string("[]"), std::string("{"), object(kOne) + "{}", std::string(200000, '[')})
    EXPECT_NE(verdict(bad, 8), "") << bad.substr(0, 80);
  EXPECT_NE(verdict(object(kOne), 7), "");   // the end is missing
  EXPECT_NE(verdict(object(kOne), 12), "");  // bytes after the last tensor
}

TEST(Safetensors, WhatTheReferenceImplementationAcceptsIsAccepted) {
  EXPECT_EQ(verdict(" " + object(kOne), 8), "");
  EXPECT_EQ(verdict(object(R"("z":{"dtype":"F32","shape":[0],"data_offsets":[8,8]},)" +
                           std::string(kOne)),
                    8),
            "");
  EXPECT_EQ(
      verdict(
          object(R"("a":{"dtype":"F64","shape":[],"data_offsets":[0,8]},"__metadata__":{"k":"v"})"),
          8),
      "");
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  const std::vector<float> numbers = {1.5f, -2, 3};
  const std::vector<uint16_t> halves = {0x3C00, 0xC000, 0x0001, 0x7C00};  // 1, -2, 2^-24, infinity
  const Path path = scratch();
  write_safetensors(path, {{"key", "\"quoted\"\n"}},
                    {{"x.weight", Dtype::f32, {3}, std::as_bytes(std::span(numbers))},
                     {"h", Dtype::f16, {2, 2}, std::as_bytes(std::span(halves))}});
  {
    const SafetensorsFile file = read_safetensors(path);
    EXPECT_EQ(file.meta("key"), "\"quoted\"\n");
    EXPECT_EQ(file.numbers("x.weight"), (std::vector<double>{1.5, -2, 3}));
    EXPECT_EQ(file.numbers("h"), (std::vector<double>{1, -2, 0x1p-24, INFINITY}));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file.find("x.weight")->bytes.data()) % 8, 0u);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace nfscale
