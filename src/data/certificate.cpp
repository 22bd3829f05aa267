#include "data/certificate.h"

#include <fmt/format.h>

#include <charconv>
#include <memory>

#include "base/error.h"

namespace nfscale {
namespace {

constexpr U128 make(uint64_t high, uint64_t low) {
  return static_cast<U128>(high) << 64 | low;
}
constexpr U128 kG = make(0x2360ED051FC65DA4u, 0x4385DF649FCCF645u);  // 5 mod 8: order 2^126
constexpr U128 kA = make(0xDA942042E4DD58B5u, 0x9E3779B97F4A7C15u);

// powers[b][d] = G^(d * 256^b): a power of G is one product a byte of the exponent.
using Powers = std::array<std::array<U128, 256>, 8>;
const Powers& powers() {
  static const std::unique_ptr<const Powers> table = [] {
    auto t = std::make_unique<Powers>();
    U128 base = kG;
    for (auto& row : *t) {
      row[0] = 1;
      for (size_t d = 1; d < 256; ++d) row[d] = row[d - 1] * base;
      base *= row[255];
    }
    return t;
  }();
  return *table;
}

}  // namespace

U128 certificate_term(uint64_t v) {
  U128 term = kA;
  for (const auto& row : powers()) {
    if (v == 0) break;
    term *= row[v & 255];
    v >>= 8;
  }
  return term;
}

U128 certificate_sum(uint64_t n) {
  U128 power = 1, total = 0;  // G^m and 1 + G + ... + G^(m-1), from m = 0 by doubling
  for (int bit = 63; bit >= 0; --bit) {
    total *= 1 + power;
    power *= power;
    if (n >> bit & 1) {
      total = total * kG + 1;
      power *= kG;
    }
  }
  return kA * total;
}

std::string hex128(U128 value) {
  return fmt::format("{:016x}{:016x}", static_cast<uint64_t>(value >> 64),
                     static_cast<uint64_t>(value));
}

U128 parse_hex128(std::string_view text) {
  uint64_t half[2] = {};
  bool good = text.size() == 32;
  for (size_t i = 0; good && i < 2; ++i) {
    const char* begin = text.data() + 16 * i;
    const auto [end, error] = std::from_chars(begin, begin + 16, half[i], 16);
    good = error == std::errc() && end == begin + 16;
  }
  if (!good) fail(Exit::usage, "expected 32 hexadecimal digits, found \"{}\"", text);
  return make(half[0], half[1]);
}

Certificate::Certificate(uint64_t examples, uint32_t repeat)
    : terms_of_epoch_(examples * repeat), repeat_(repeat) {}

void Certificate::add(uint64_t epoch, uint64_t example, uint32_t copy) {
  add({epoch, 1, certificate_term(example * repeat_ + copy)});
}

void Certificate::add(const Part& part) {
  if (part.terms == 0) return;
  if (part.epoch < closed_)
    fail(Exit::defect, "defect: epoch {} is closed and got {} more examples", part.epoch,
         part.terms);
  Open& open = open_[part.epoch];
  open.terms += part.terms;
  open.sum += part.sum;
  total_ += part.sum;
  if (open.terms < terms_of_epoch_) return;
  const U128 wanted = certificate_sum(terms_of_epoch_);
  if (open.terms != terms_of_epoch_ || open.sum != wanted)
    fail(Exit::defect,
         "defect: epoch {} did not use every example exactly once: sum {} of {} examples, expected "
         "{} of {}",
         part.epoch, hex128(open.sum), open.terms, hex128(wanted), terms_of_epoch_);
  if (part.epoch != closed_)
    fail(Exit::defect, "defect: epoch {} ended before epoch {}, which has {} of {} examples",
         part.epoch, closed_, open_[closed_].terms, terms_of_epoch_);
  open_.erase(part.epoch);
  ++closed_;
}

Json Certificate::to_json() const {
  Json open = Json::array();
  for (const auto& [epoch, o] : open_)
    open.push(Json::object({{"epoch", epoch}, {"terms", o.terms}, {"sum", hex128(o.sum)}}));
  return Json::object({{"terms_of_epoch", terms_of_epoch_},
                       {"repeat", repeat_},
                       {"closed", closed_},
                       {"sum", sum()},
                       {"open", open}});
}

Certificate Certificate::from_json(const Json& state, uint64_t examples, uint32_t repeat) {
  const auto number = [](const Json& of, std::string_view key) {
    return static_cast<uint64_t>(of.at(key).as_int());
  };
  Certificate c(examples, repeat);
  if (number(state, "terms_of_epoch") != c.terms_of_epoch_ || number(state, "repeat") != repeat)
    fail(Exit::defect, "defect: a certificate of {} slots an epoch cannot go on with {}",
         number(state, "terms_of_epoch"), c.terms_of_epoch_);
  c.closed_ = number(state, "closed");
  c.total_ = parse_hex128(state.at("sum").as_string());
  for (const Json& o : state.at("open").items())
    c.open_[number(o, "epoch")] = {number(o, "terms"), parse_hex128(o.at("sum").as_string())};
  return c;
}

}  // namespace nfscale
