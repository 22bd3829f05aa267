// How every failure travels: one exception type, thrown by fail(), caught once in main().
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace nfscale {

using Path = std::filesystem::path;

// Exit codes of the program; scripts rely on the numbers.
enum class Exit {
  ok = 0,
  defect = 1,      // a fault of nfscale itself
  usage = 2,       // wrong usage, configuration or input
  damaged = 3,     // data damaged beyond the limit, or no intact checkpoint left
  diverged = 4,    // training diverged
  check = 5,       // a check did not hold
  system = 74,     // the system refused input or output
  preempted = 75,  // everything is saved, the same command line continues
};

struct Error : std::runtime_error {
  Error(Exit exit_code, const std::string& message)
      : std::runtime_error(message), code(exit_code) {}
  Exit code;
};

// The message is one line: what, where, what is allowed, the nearest valid name.
template <class... Args>
[[noreturn]] void fail(Exit code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, fmt::format(text, std::forward<Args>(args)...));
}

// Exit::system with the path, what was tried and the system's own words for `error_number`.
[[noreturn]] void fail_io(const Path& path, std::string_view doing, int error_number);

// For parts of the contract that are not built: exit 2 with "NAME is not supported yet".
[[noreturn]] void not_supported(std::string_view name);

// A condition that only a defect of nfscale can break.
#define NFSCALE_CHECK(condition)                                                               \
  do {                                                                                         \
    if (!(condition))                                                                          \
      ::nfscale::fail(::nfscale::Exit::defect, "defect: {} does not hold ({}:{})", #condition, \
                      __FILE__, __LINE__);                                                     \
  } while (false)

}  // namespace nfscale
