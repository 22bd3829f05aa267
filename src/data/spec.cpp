#include "data/spec.h"

#include <glob.h>

#include <algorithm>
#include <set>

#include "base/files.h"
#include "base/text.h"

namespace nfscale {
namespace {

const std::vector<std::string> kSchemes = {"wds",   "folder", "mds",    "idx",
                                           "cifar", "shapes", "fractal"};

}  // namespace

Spec::Spec(const std::string& text) : whole(text) {
  const size_t colon = text.find(':');
  scheme = text.substr(0, colon);
  if (scheme == "https" || scheme == "http" || scheme == "s3") not_supported(scheme + ":");
  if (colon == std::string::npos ||
      std::find(kSchemes.begin(), kSchemes.end(), scheme) == kSchemes.end())
    fail(Exit::usage,
         "{}: expected a source like wds:PATH, folder:DIR, mds:DIR, idx:DIR, cifar:DIR, shapes: "
         "or fractal:, {} is not a scheme (nearest: {}:)",
         printable(text), printable(scheme), nearest(scheme, kSchemes));
  path = text.substr(colon + 1);
  if (path.starts_with("https://") || path.starts_with("http://") || path.starts_with("s3://"))
    not_supported(scheme + ":" + path.substr(0, path.find('/')) + "//");
  const size_t mark = path.rfind('?');
  if (mark == std::string::npos) return;
  const std::string rest = path.substr(mark + 1);
  path.resize(mark);
  if (rest.empty()) return;
  for (const std::string& item : split(rest, '&')) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0)
      fail(Exit::usage, "{}: expected key=value after \"?\", found \"{}\"", printable(whole),
           printable(item));
    if (given(item.substr(0, equals)))
      fail(Exit::usage, "{}: {} is given twice", printable(whole), item.substr(0, equals));
    query_.emplace_back(item.substr(0, equals), item.substr(equals + 1));
  }
}

bool Spec::given(const std::string& key) const {
  return std::any_of(query_.begin(), query_.end(), [&](const auto& q) { return q.first == key; });
}

std::optional<std::string> Spec::text(const std::string& key) {
  asked_.push_back(key);
  for (const auto& [name, value] : query_)
    if (name == key) return value;
  return std::nullopt;
}

std::string Spec::word(const std::string& key, const std::vector<std::string>& allowed) {
  std::string value = text(key).value_or(allowed.front());
  if (std::find(allowed.begin(), allowed.end(), value) == allowed.end())
    fail(Exit::usage, "{}: {}: expected one of {}, found \"{}\" (nearest: {})", printable(whole),
         key, join(allowed, ", "), printable(value), nearest(value, allowed));
  return value;
}

int64_t Spec::integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) {
  const auto given_text = text(key);
  if (!given_text) return fallback;
  const auto value = parse_int(*given_text);
  if (!value || *value < low || *value > high)
    fail(Exit::usage, "{}: {}: expected a whole number from {} to {}, found \"{}\"",
         printable(whole), key, low, high, printable(*given_text));
  return *value;
}

double Spec::real(const std::string& key, double fallback, double low, double high) {
  const auto given_text = text(key);
  if (!given_text) return fallback;
  const auto value = parse_double(*given_text);
  if (!value || !(*value >= low && *value <= high))
    fail(Exit::usage, "{}: {}: expected a number from {} to {}, found \"{}\"", printable(whole),
         key, low, high, printable(*given_text));
  return *value;
}

void Spec::refuse_unknown() const {
  for (const auto& [key, value] : query_)
    if (std::find(asked_.begin(), asked_.end(), key) == asked_.end())
      fail(Exit::usage, "{}: {} is not a key of {}: (nearest: {})", printable(whole),
           printable(key), scheme, nearest(key, asked_));
}

std::vector<std::string> read_classes(const Path& file) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (std::string& line : split(read_file(file, size_t{1} << 28), '\n')) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    if (!seen.insert(line).second)
      fail(Exit::usage, "{}: the class {} comes twice", file.string(), printable(line));
    names.push_back(std::move(line));
  }
  if (names.empty()) fail(Exit::usage, "{}: no class in it", file.string());
  return names;
}

std::vector<std::string> class_names(const std::optional<std::string>& given, const Path& beside) {
  if (given) return read_classes(*given);
  return is_there(beside) ? read_classes(beside) : std::vector<std::string>();
}

std::vector<std::string> numbers_as_names(int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

namespace {

constexpr size_t kMostPaths = 1'000'000;

// The parts of a brace group's inside; the text itself in braces where it is no group.
std::vector<std::string> group(const std::string& inside) {
  const size_t dots = inside.find("..");
  if (dots != std::string::npos) {
    const std::string low = inside.substr(0, dots), high = inside.substr(dots + 2);
    const auto a = parse_int(low), b = parse_int(high);
    if (a && b && *a >= 0 && *b >= *a) {
      if (static_cast<size_t>(*b - *a) >= kMostPaths)
        fail(Exit::usage, "{{{}}}: more than {} names", inside, kMostPaths);
      const size_t width = low.size() > 1 && low[0] == '0' ? low.size() : 0;
      std::vector<std::string> parts;
      for (int64_t i = *a; i <= *b; ++i) parts.push_back(fmt::format("{:0{}}", i, width));
      return parts;
    }
  }
  if (inside.find(',') == std::string::npos) return {"{" + inside + "}"};
  return split(inside, ',');
}

}  // namespace

std::vector<std::string> expand_braces(const std::string& text) {
  std::vector<std::string> done = {""};
  size_t at = 0;
  while (at < text.size()) {
    const size_t open = text.find('{', at);
    const size_t close = open == std::string::npos ? open : text.find('}', open);
    const std::string plain =
        text.substr(at, close == std::string::npos ? std::string::npos : open - at);
    for (std::string& d : done) d += plain;
    if (close == std::string::npos) break;
    const auto parts = group(text.substr(open + 1, close - open - 1));
    if (done.size() * parts.size() > kMostPaths)
      fail(Exit::usage, "{}: more than {} names", printable(text), kMostPaths);
    std::vector<std::string> longer;
    for (const std::string& d : done)
      for (const std::string& p : parts) longer.push_back(d + p);
    done = std::move(longer);
    at = close + 1;
  }
  return done;
}

std::vector<std::string> expand_paths(const std::string& text) {
  std::vector<std::string> paths;
  if (text.starts_with('@')) {
    for (std::string& line : split(read_file(text.substr(1), size_t{1} << 28), '\n')) {
      if (line.ends_with('\r')) line.pop_back();
      if (!line.empty()) paths.push_back(std::move(line));
    }
    if (paths.empty()) fail(Exit::usage, "{}: no path in it", printable(text));
    return paths;
  }
  for (const std::string& part : expand_braces(text)) {
    if (part.find_first_of("*?[") == std::string::npos || is_there(part)) {
      paths.push_back(part);
      continue;
    }
    glob_t found{};
    const int result = ::glob(part.c_str(), GLOB_NOSORT, nullptr, &found);
    std::vector<std::string> here(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    ::globfree(&found);
    if (result != 0 || here.empty())
      fail(Exit::usage, "{}: no file of that pattern", printable(part));
    std::sort(here.begin(), here.end());
    paths.insert(paths.end(), here.begin(), here.end());
  }
  return paths;
}

}  // namespace nfscale
