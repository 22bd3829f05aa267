// The command line by CLI11: options as typed, help with an example, nearest names for what is
// unknown.
#include <CLI/CLI.hpp>

#include <sched.h>

#include <algorithm>
#include <cstdlib>

#include "base/log.h"
#include "base/text.h"
#include "cli/command.h"

namespace nfscale {

std::string Args::text(const std::string& name, const std::string& fallback) const {
  const auto found = values_.find(name);
  return found == values_.end() || found->second.empty() ? fallback : found->second.back();
}

std::optional<Path> Args::path(const std::string& name) const {
  if (!has(name)) return std::nullopt;
  return Path(text(name));
}

const std::vector<std::string>& Args::all(const std::string& name) const {
  static const std::vector<std::string> none;
  const auto found = values_.find(name);
  return found == values_.end() ? none : found->second;
}

int64_t Args::integer(const std::string& name, int64_t fallback, int64_t low, int64_t high) const {
  if (!has(name)) return fallback;
  const std::string given = text(name);
  const std::optional<int64_t> value = parse_int(given);
  if (!value || *value < low || *value > high)
    fail(Exit::usage, "{}: expected a whole number from {} to {}, found {}", name, low, high,
         given);
  return *value;
}

int Args::threads() const {
  cpu_set_t cpus;
  int usable = ::sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
  // Slurm may give a job fewer cores of a node than it keeps it to.
  if (const char* given = std::getenv("SLURM_CPUS_ON_NODE"))
    if (const auto n = parse_int(given); n && *n > 0)
      usable = static_cast<int>(std::min<int64_t>(usable, *n));
  return static_cast<int>(integer("--threads", usable, 1, 4096));
}

std::vector<Command> commands() {
  std::vector<Command> all;
  for (const auto& group : {train_commands(), average_commands(), study_commands(), fit_commands(),
                            model_commands(), cost_commands(), data_commands(), tool_commands()})
    all.insert(all.end(), group.begin(), group.end());
  return all;
}

namespace {

const std::vector<Option>& common_options() {
  static const std::vector<Option> options = {
      {"--json", "", "one JSON document on standard output, and nothing else"},
      {"--quiet", "", "only errors on standard error"},
      {"--log-level", "LEVEL", "debug, info, warning or error"},
      {"--threads", "N", "threads of this process; default: all cores it may use"},
  };
  return options;
}

// One command as CLI11 sees it, with the values it fills.
struct Parser {
  const Command* command;
  CLI::App* app;
  std::map<std::string, std::vector<std::string>> values;
  std::map<std::string, bool> switches;
};

void add_option(Parser& parser, const Option& option) {
  const bool positional = !option.name.starts_with("--");
  if (!positional && option.value.empty()) {
    parser.app->add_flag(option.name, parser.switches[option.name], option.help);
    return;
  }
  CLI::Option* added = parser.app->add_option(option.name, parser.values[option.name], option.help);
  added->type_name(positional ? "" : option.value);
  using Times = Option::Times;
  const bool several = option.times == Times::any || option.times == Times::some;
  const bool needed = option.times == Times::once || option.times == Times::some;
  if (positional && several)
    added->expected(needed ? 1 : 0, 1 << 20);
  else
    added->expected(positional && !needed ? 0 : 1, 1)->allow_extra_args(false);
  if (needed) added->required();
  if (!positional)
    added->multi_option_policy(several ? CLI::MultiOptionPolicy::TakeAll
                                       : CLI::MultiOptionPolicy::Throw);
}

// The command whose words were typed, and the first word that fits none.
[[noreturn]] void unknown_command(const std::string& typed, const std::vector<std::string>& known) {
  fail(Exit::usage, "unknown command {} (nearest: {}); see nfscale --help", typed,
       nearest(typed, known));
}

[[noreturn]] void usage_error(const CLI::ParseError& e, const Parser* parser,
                              const std::vector<std::string>& typed) {
  if (!parser) fail(Exit::usage, "{}", e.what());
  std::vector<std::string> names = {"--help"};
  for (const auto* list : {&parser->command->options, &common_options()})
    for (const Option& o : *list)
      if (o.name.starts_with("--")) names.push_back(o.name);
  for (const std::string& word : typed) {
    const std::string name = word.substr(0, word.find('='));
    if (name.starts_with("-") && name.size() > 1 &&
        std::find(names.begin(), names.end(), name) == names.end() && !parse_double(name))
      fail(Exit::usage, "nfscale {}: {} is not an option (nearest: {})", parser->command->name,
           name, nearest(name, names));
  }
  std::string text = e.what();
  std::replace(text.begin(), text.end(), '\n', ' ');
  fail(Exit::usage, "nfscale {}: {}; see nfscale {} --help", parser->command->name, text,
       parser->command->name);
}

void configure_log(const Args& args) {
  const std::vector<std::string> levels = {"debug", "info", "warning", "error"};
  if (args.has("--log-level")) {
    const auto found = std::find(levels.begin(), levels.end(), args.text("--log-level"));
    if (found == levels.end())
      fail(Exit::usage, "--log-level: expected one of {}, found {}", join(levels, ", "),
           args.text("--log-level"));
    set_log_level(static_cast<LogLevel>(found - levels.begin()));
  }
  if (args.has("--quiet")) set_log_level(LogLevel::error);
}

// Options of every command are checked by every command, whether or not it uses them.
void check_common(const Args& args) {
  configure_log(args);
  args.threads();
}

}  // namespace

void run_command_line(int argc, char** argv) {
  const std::vector<Command> all = commands();
  CLI::App app("Finds out how far an image model scales: pretrains, tunes, fits and predicts.",
               "nfscale");
  app.require_subcommand(0, 1);
  app.set_version_flag("--version", "nfscale " NFSCALE_VERSION);
  std::map<std::string, CLI::App*> groups;
  std::vector<std::string> names, words;
  std::vector<std::unique_ptr<Parser>> parsers;
  for (const Command& command : all) {
    words = split(command.name, ' ');
    CLI::App* parent = &app;
    if (words.size() == 2) {
      CLI::App*& group = groups[words[0]];
      if (!group)
        group = app.add_subcommand(words[0], words[0] + " commands")->require_subcommand(0, 1);
      parent = group;
      group->footer(group->get_footer() + (group->get_footer().empty() ? "Examples:\n  " : "\n  ") +
                    command.example);
    }
    CLI::App* sub = parent->add_subcommand(words.back(), command.summary);
    sub->footer("Example:\n  " + command.example);
    parsers.push_back(std::make_unique<Parser>(Parser{&command, sub, {}, {}}));
    for (const Option& option : command.options) add_option(*parsers.back(), option);
    for (const Option& option : common_options()) add_option(*parsers.back(), option);
    names.push_back(words[0]);
  }

  const std::vector<std::string> typed(argv + 1, argv + argc);
  if (typed.empty()) return print(app.help());
  if (!typed[0].starts_with("-") && std::find(names.begin(), names.end(), typed[0]) == names.end())
    unknown_command(typed[0], names);
  if (groups.contains(typed[0]) && typed.size() > 1 && !typed[1].starts_with("-")) {
    std::vector<std::string> inner;
    for (const Command& command : all)
      if (command.name.starts_with(typed[0] + " "))
        inner.push_back(command.name.substr(typed[0].size() + 1));
    if (std::find(inner.begin(), inner.end(), typed[1]) == inner.end())
      unknown_command(typed[0] + " " + typed[1], inner);
  }
  const auto chosen = [&]() -> Parser* {
    for (const auto& p : parsers)
      if (p->app->parsed()) return p.get();
    return nullptr;
  };
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForVersion&) {
    return print("nfscale " NFSCALE_VERSION "\n");
  } catch (const CLI::CallForHelp&) {
    const CLI::App* shown = &app;
    while (!shown->get_subcommands().empty()) shown = shown->get_subcommands().front();
    return print(shown->help());
  } catch (const CLI::ParseError& e) {
    usage_error(e, chosen(), typed);
  }
  Parser* parser = chosen();
  if (!parser) {
    for (const auto& [name, group] : groups)
      if (group->parsed()) return print(group->help());
    return print(app.help());
  }
  Args args;
  for (auto& [name, values] : parser->values)
    if (!values.empty()) args.values_[name] = values;
  for (auto& [name, on] : parser->switches)
    if (on) args.values_[name] = {};
  check_common(args);
  parser->command->run(args);
}

void print_result(const Args& args, const Json& document, const std::string& text) {
  print(args.json() ? document.dump(1) + "\n" : text);
}

std::string grouped(int64_t n) {
  return n < 1000 ? std::to_string(n) : fmt::format("{},{:03}", grouped(n / 1000), n % 1000);
}

std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (i == widths.size()) widths.push_back(0);
      widths[i] = std::max(widths[i], row[i].size());
    }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      // The first column is a name; the rest are numbers, which line up on the right.
      line += i == 0 ? fmt::format("{:<{}}", row[i], widths[i])
                     : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

}  // namespace nfscale
