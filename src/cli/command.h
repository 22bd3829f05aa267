// A command of the program: its options as data, from which parsing, help and suggestions follow.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace nfscale {

struct Option {
  std::string name;   // "--size"; a positional argument is its name in capitals: "NAME"
  std::string value;  // what follows, for the help: "PX"; empty for a switch
  std::string help;
  enum class Times { maybe, once, any, some } times = Times::maybe;  // maybe 0..1, some 1..
};

// What was typed, by option name.
class Args {
 public:
  bool has(const std::string& name) const { return values_.contains(name); }
  std::string text(const std::string& name, const std::string& fallback = "") const;
  std::optional<Path> path(const std::string& name) const;
  const std::vector<std::string>& all(const std::string& name) const;
  // Exit::usage naming the option where it is no whole number of that range.
  int64_t integer(const std::string& name, int64_t fallback, int64_t low, int64_t high) const;
  bool json() const { return has("--json"); }
  int threads() const;  // --threads, or all that the process may use

  std::map<std::string, std::vector<std::string>> values_;
};

struct Command {
  std::string name;  // "models", or "data check" for a sub-command
  std::string summary;
  std::string example;  // one line that works as it stands
  std::vector<Option> options;
  void (*run)(const Args&);
};

// Every command, in the order of the help.
std::vector<Command> commands();

// One file each under cli/.
std::vector<Command> model_commands();  // models, parity
std::vector<Command> cost_commands();
std::vector<Command> train_commands();  // pretrain, finetune, eval, predict
std::vector<Command> average_commands();
std::vector<Command> data_commands();
std::vector<Command> study_commands();
std::vector<Command> fit_commands();
std::vector<Command> tool_commands();  // config, doctor, bench, export

// Parses, runs, and returns the exit code; throws Error.
void run_command_line(int argc, char** argv);

// The JSON document if --json was given, else the text; both to standard output.
void print_result(const Args& args, const Json& document, const std::string& text);

// 71,489,284
std::string grouped(int64_t n);

// Rows with the first one as a heading, columns aligned; numbers to the right.
std::string text_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace nfscale
