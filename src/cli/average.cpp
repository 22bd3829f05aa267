// average: one model out of several runs.
#include <ATen/Parallel.h>

#include "base/log.h"
#include "base/text.h"
#include "cli/command.h"
#include "train/evaluate.h"
#include "train/soup.h"

namespace nfscale {
namespace {

void write_model(const Path& out, const TrainedModel& trained) {
  const SafetensorsFile like = read_safetensors(trained.file);
  write_safetensors(out, like.metadata, weight_views(trained.model, trained.model.weights));
}

void run_average(const Args& args) {
  at::set_num_threads(args.threads());
  std::vector<Path> checkpoints;
  for (const std::string& path : args.all("CKPT")) checkpoints.emplace_back(path);
  if (checkpoints.size() < 2) fail(Exit::usage, "average: at least two checkpoints are needed");
  const Path out = *args.path("--out");
  if (!args.has("--data")) {
    write_model(out, uniform_soup(checkpoints));
    return print_result(
        args, Json::object({{"models", checkpoints.size()}, {"out", out.string()}}),
        fmt::format("{}: the mean of {} models\n", out.string(), checkpoints.size()));
  }
  const auto source = open_source({args.text("--data")});
  const GreedySoup soup = greedy_soup(checkpoints, [&](const TrainedModel& trained) {
    const EvaluateOptions options = evaluate_options(trained, std::max(1, args.threads() / 2));
    return evaluate(trained.model, source, options).loss;
  });
  write_model(out, soup.model);
  Json steps = Json::array();
  std::vector<std::vector<std::string>> rows = {{"checkpoint", "loss", "of the soup with it", ""}};
  for (const SoupStep& s : soup.steps) {
    steps.push(Json::object({{"checkpoint", s.checkpoint.string()},
                             {"loss", s.alone},
                             {"with", s.with},
                             {"taken", s.taken}}));
    rows.push_back({s.checkpoint.string(), fmt::format("{:.4f}", s.alone),
                    fmt::format("{:.4f}", s.with), s.taken ? "taken" : "left out"});
  }
  print_result(args, Json::object({{"loss", soup.loss}, {"steps", steps}, {"out", out.string()}}),
               text_table(rows) + fmt::format("{}: loss {:.4f}\n", out.string(), soup.loss));
}

}  // namespace

std::vector<Command> average_commands() {
  return {{"average",
           "one model out of several runs: the mean of their weights, or of those that help",
           "nfscale average runs/a runs/b --data folder:held-out --out soup.safetensors",
           {{"CKPT", "", "runs or checkpoints of one model", Option::Times::some},
            {"--data", "SPEC", "take, best first, what does not raise the loss on this source"},
            {"--out", "FILE", "the new weights", Option::Times::once}},
           run_average}};
}

}  // namespace nfscale
