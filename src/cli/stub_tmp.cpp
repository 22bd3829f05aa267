#include "cli/command.h"
namespace nfscale {
std::vector<Command> study_commands() {
  return {};
}
}  // namespace nfscale
