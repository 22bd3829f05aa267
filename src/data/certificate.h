// The proof that every example was counted exactly once in every epoch.
//
// Each applied slot adds term(v) = A * G^v mod 2^128, v = example * K + copy, to the sum of its
// epoch. The sum over a whole epoch has a closed form that needs no pass over the data, so at the
// end of an epoch sum and count are compared with it. One example lost and another doubled is found
// with certainty: G^i - G^j is never 0 mod 2^128 for |i - j| < 2^126.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/json.h"

namespace nfscale {

__extension__ using U128 = unsigned __int128;

U128 certificate_term(uint64_t v);
U128 certificate_sum(uint64_t n);  // of the terms of 0 .. n-1, in O(log n)
std::string hex128(U128 value);    // 32 digits
U128 parse_hex128(std::string_view text);

class Certificate {
 public:
  Certificate(uint64_t examples, uint32_t repeat);

  // Adds an applied slot. Closes its epoch when all N*K terms are in; Exit::defect with both sums
  // where they differ from the closed form, or where an epoch gets more than it has.
  void add(uint64_t epoch, uint64_t example, uint32_t copy);

  // The same for several slots of an epoch: what another process summed.
  struct Part {
    uint64_t epoch = 0, terms = 0;
    U128 sum = 0;
  };
  void add(const Part& part);

  uint64_t closed() const { return closed_; }         // epochs 0 .. closed()-1 are proved
  std::string sum() const { return hex128(total_); }  // over everything added

  Json to_json() const;
  // Exit::usage where the state is not one of to_json, Exit::defect where it is of another N or K.
  static Certificate from_json(const Json& state, uint64_t examples, uint32_t repeat);

  bool operator==(const Certificate&) const = default;

 private:
  struct Open {
    uint64_t terms = 0;
    U128 sum = 0;
    bool operator==(const Open&) const = default;
  };
  uint64_t terms_of_epoch_, repeat_;
  uint64_t closed_ = 0;
  U128 total_ = 0;
  std::map<uint64_t, Open> open_;  // a small set may have several epochs open in one batch
};

}  // namespace nfscale
