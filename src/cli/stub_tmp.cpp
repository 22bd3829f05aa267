#include "cli/command.h"
namespace nfscale {
std::vector<Command> data_commands() { return {}; }
std::vector<Command> study_commands() { return {}; }
}
