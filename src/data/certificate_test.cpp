#include "data/certificate.h"

#include <gtest/gtest.h>

#include "data/order.h"
#include "data/testing.h"

namespace nfscale {
namespace {

TEST(Certificate, VectorsOfTermsAndClosedForm) {
  const Json vectors = test_json("order_vectors.json");
  for (const Json& v : vectors.at("certificate").at("term").items())
    EXPECT_EQ(hex128(certificate_term(number_of(v.items()[0]))), v.items()[1].as_string());
  for (const Json& v : vectors.at("certificate").at("closed").items())
    EXPECT_EQ(hex128(certificate_sum(number_of(v.items()[0]))), v.items()[1].as_string());
}

TEST(Certificate, ThreeEpochsInTheirOrderClose) {
  Order order({.examples = 101, .seed = 5, .repeat = 4});
  Certificate c(101, 4);
  for (uint64_t slot = 0; slot < 3 * 404; ++slot) {
    if (slot % 97 == 0) c = Certificate::from_json(parse_json(c.to_json().dump(), "state"), 101, 4);
    const Slot s = order.at(slot);
    c.add(s.epoch, s.example, s.copy);
  }
  EXPECT_EQ(c.closed(), 3u);
  EXPECT_EQ(c.sum(), hex128(3 * certificate_sum(404)));
}

TEST(Certificate, OneExampleLostAndAnotherDoubledIsADefect) {
  for (uint64_t lost = 0; lost < 10; ++lost) {
    Certificate c(10, 1);
    const std::string message = error_of(
        [&] {
          for (uint64_t i = 0; i < 10; ++i) c.add(0, i == lost ? (lost + 3) % 10 : i, 0);
        },
        Exit::defect);
    EXPECT_NE(message.find(hex128(certificate_sum(10))), std::string::npos) << message;
  }
}

TEST(Certificate, ExamplesSwappedBetweenEpochsAreADefect) {
  Certificate c(4, 1);
  for (const uint64_t i : {0u, 1u, 2u}) c.add(0, i, 0);
  c.add(1, 3, 0);
  for (const uint64_t i : {0u, 1u}) c.add(1, i, 0);
  EXPECT_NE(error_of([&] { c.add(1, 2, 0); }, Exit::defect), "");  // before epoch 0 was complete
}

TEST(Certificate, MoreThanAnEpochHasIsADefect) {
  Certificate c(3, 1);
  for (const uint64_t i : {0u, 1u, 2u}) c.add(0, i, 0);
  EXPECT_NE(error_of([&] { c.add(0, 1, 0); }, Exit::defect), "");
}

TEST(Certificate, ASumReadsBackFromItsText) {
  U128 sum = 0;
  for (uint64_t i = 0; i < 1000; ++i) sum += certificate_term(i * 7919);
  EXPECT_EQ(hex128(parse_hex128(hex128(sum))), hex128(sum));
}

}  // namespace
}  // namespace nfscale
