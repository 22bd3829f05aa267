// The text of a source, SCHEME:PATH?key=value&..., taken apart; for source*.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/source.h"

namespace nfscale {

class Spec {
 public:
  explicit Spec(const std::string& text);  // Exit::usage where there is no known scheme

  // The value of a query key, which is then known; the fallback where it is not given.
  std::optional<std::string> text(const std::string& key);
  std::string word(const std::string& key,
                   const std::vector<std::string>& allowed);  // first: default
  int64_t integer(const std::string& key, int64_t fallback, int64_t low, int64_t high);
  double real(const std::string& key, double fallback, double low, double high);
  bool given(const std::string& key) const;
  void refuse_unknown() const;  // Exit::usage for keys that nothing asked for

  std::string whole, scheme, path;

 private:
  std::vector<std::pair<std::string, std::string>> query_;
  std::vector<std::string> asked_;
};

// Takes what is wrong with the data: throws it, or writes it down and returns.
using Report = std::function<void(Problem)>;

std::shared_ptr<Source> open_shapes(Spec& spec);
std::shared_ptr<Source> open_fractal(Spec& spec);
std::shared_ptr<Source> open_wds(Spec& spec, const Report& report);
std::shared_ptr<Source> open_folder(Spec& spec, const Report& report);
std::shared_ptr<Source> open_cifar(Spec& spec, const Report& report);
std::shared_ptr<Source> open_idx(Spec& spec, const Report& report);
std::shared_ptr<Source> open_mds(Spec& spec, const Report& report);

// Names of classes from a file, one a line; Exit::usage for a name that comes twice.
std::vector<std::string> read_classes(const Path& file);
// Those of the file that a specification names; else those of `beside`, where there is such a file.
std::vector<std::string> class_names(const std::optional<std::string>& given, const Path& beside);
// "0", "1", ...
std::vector<std::string> numbers_as_names(int64_t count);

// "a{0..2}{x,y}" to its six texts in order; numbers keep their width. Exit::usage beyond a
// million.
std::vector<std::string> expand_braces(const std::string& text);
// Braces, globs (sorted by bytes) and @FILE to paths; Exit::usage where a part matches nothing.
std::vector<std::string> expand_paths(const std::string& text);

}  // namespace nfscale
