#include "base/error.h"

#include <cstring>

namespace nfscale {

void fail_io(const Path& path, std::string_view doing, int error_number) {
  fail(Exit::system, "{}: {} failed: {}", path.string(), doing, std::strerror(error_number));
}

void not_supported(std::string_view name) {
  fail(Exit::usage, "{} is not supported yet", name);
}

}  // namespace nfscale
