// models, cost, parity, export: what a model is, without training it.
#include <cmath>

#include "arch/cost.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/command.h"
#include "config/load.h"
#include "train/parity.h"

namespace nfscale {
namespace {

std::string grouped(int64_t n) {  // 71,489,284
  return n < 1000 ? std::to_string(n) : fmt::format("{},{:03}", grouped(n / 1000), n % 1000);
}

void run_models(const Args& args) {
  const std::vector<std::string> names = args.has("NAME") ? args.all("NAME") : model_names();
  Json models = Json::array();
  std::vector<std::vector<std::string>> rows = {
      {"model", "px", "classes", "parameters", "multiply-adds", "training memory/image"}};
  for (const std::string& name : names) {
    ModelConfig config;
    config.name = name;
    const int64_t size = args.integer("--size", default_size(name), 1, 65500);
    const Arch arch = make_arch(
        config, args.integer("--classes", default_classes(name), 1, 1 << 24), sides_of(size));
    const int64_t params = arch.param_count(), macs = arch.macs(size, size),
                  bytes = 4 * arch.activations(size, size);
    models.push(Json::object({{"name", name},
                              {"family", arch.family},
                              {"image_size", size},
                              {"classes", arch.classes},
                              {"params", params},
                              {"macs", macs},
                              {"activation_bytes", bytes}}));
    rows.push_back({name, std::to_string(size), std::to_string(arch.classes), grouped(params),
                    grouped(macs), bytes_text(static_cast<double>(bytes))});
  }
  print_result(args, Json::object({{"models", models}}), text_table(rows));
}

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

void run_paper(const Args& args) {
  Json rows = Json::array(), reported = Json::object(), utilisation = Json::object();
  std::vector<std::vector<std::string>> table = {{"model", "images", "multiply-adds", "FLOPs",
                                                  "v4 core hours", "utilisation", "v3 core hours",
                                                  "utilisation"}};
  for (const PaperRun& run : paper_runs()) {
    Json hours = Json::object();
    for (const Accelerator& a : accelerators())
      hours.set(a.name, device_hours(run.flops(), a, run.utilisation("tpu-v4-core")));
    const double v4 = run.utilisation("tpu-v4-core"), v3 = run.utilisation("tpu-v3-core");
    rows.push(Json::object({{"name", run.model},
                            {"macs", run.macs},
                            {"images", run.images},
                            {"flops", run.flops()},
                            {"device_hours", hours},
                            {"v3_hours_are_a_lower_bound", run.v3_at_least}}));
    reported.set(run.model,
                 Json::object({{"tpu-v4-core", run.v4_hours}, {"tpu-v3-core", run.v3_hours}}));
    utilisation.set(run.model, Json::object({{"tpu-v4-core", v4}, {"tpu-v3-core", v3}}));
    table.push_back({run.model, fmt::format("{:.4g}", run.images), grouped(run.macs),
                     fmt::format("{:.3g}", run.flops()), fmt::format("{:.0f}k", run.v4_hours / 1e3),
                     percent(v4),
                     fmt::format("{}{:.0f}k", run.v3_at_least ? "> " : "", run.v3_hours / 1e3),
                     (run.v3_at_least ? "< " : "") + percent(v3)});
  }
  std::string text = text_table(table) + "\nHours as reported by arXiv 2310.16764. Assumed:\n";
  for (const std::string& a : paper_assumptions()) text += "- " + a + "\n";
  print_result(args,
               Json::object({{"rows", rows},
                             {"reported_hours", reported},
                             {"utilisation", utilisation},
                             {"assumptions", Json(paper_assumptions())}}),
               text);
}

void run_cost(const Args& args) {
  if (args.has("--paper")) return run_paper(args);
  if (args.has("--study")) not_supported("cost --study");
  if (!args.has("--config")) fail(Exit::usage, "cost: --config F is needed");
  const Config c = load_config(args.path("--config"), args.all("--set")).config;
  const Arch arch = make_arch(c.model, default_classes(c.model.name), sides_of(c.train.image_size));
  const auto examples = static_cast<uint64_t>(c.data.examples * c.data.augment.repeat);
  if (c.train.duration.unit == Duration::Unit::epochs && examples == 0)
    fail(Exit::usage, "data.examples: needed to turn train.duration = \"{}\" into images",
         duration_key_text(c.train.duration));
  const uint64_t images = total_slots(
      c.train.duration,
      {.examples = examples, .batch = static_cast<uint64_t>(c.train.batch), .total_slots = 0});
  const int64_t macs = arch.macs(c.train.image_size, c.train.image_size),
                params = arch.param_count();
  const double flops = training_flops(macs, static_cast<double>(images)),
               utilisation = 0.01 * static_cast<double>(args.integer("--utilisation", 40, 1, 100));
  Json hours = Json::object();
  std::vector<std::vector<std::string>> on_devices = {
      {"device", fmt::format("hours at {:.0f} % of its peak", 100 * utilisation)}};
  for (const Accelerator& a : accelerators()) {
    const double h = device_hours(flops, a, utilisation);
    hours.set(a.name, h);
    on_devices.push_back({a.name, h < 100 ? fmt::format("{:.3g}", h)
                                          : grouped(static_cast<int64_t>(std::lround(h)))});
  }
  const int64_t memory = arch.training_bytes(c.train.batch, c.train.image_size);
  const Json row = Json::object({{"name", c.model.name},
                                 {"params", params},
                                 {"macs", macs},
                                 {"images", images},
                                 {"flops", flops},
                                 {"device_hours", hours},
                                 {"memory_bytes", memory}});
  print_result(args, Json::object({{"rows", Json::array({row})}}),
               text_table({{"model", "parameters", "multiply-adds", "images", "FLOPs", "memory"},
                           {c.model.name, grouped(params), grouped(macs),
                            grouped(static_cast<int64_t>(images)), fmt::format("{:.3g}", flops),
                            bytes_text(static_cast<double>(memory))}}) +
                   "\n" + text_table(on_devices));
}

void run_parity_command(const Args& args) {
  const std::string precision = args.text("--precision", "f32");
  if (precision != "f32" && precision != "f64")
    fail(Exit::usage, "--precision: expected f32 or f64, found {}", precision);
  const std::string numerics = args.text("--numerics");
  if (!numerics.empty() && numerics != "deepmind" && numerics != "timm")
    fail(Exit::usage, "--numerics: expected deepmind or timm, found {}", numerics);
  bool ok = true;
  Json cases = Json::array();
  std::vector<std::vector<std::string>> rows = {
      {"case", "numerics", "compared", "worst tensor", "error", "tolerance", "verdict"}};
  for (const std::string& file : args.all("FILE")) {
    live("parity: " + file);
    const ParityResult r = run_parity(file, precision == "f64", numerics);
    ok = ok && r.ok;
    cases.push(Json::object({{"name", r.name},
                             {"case", r.kind},
                             {"numerics", r.numerics},
                             {"ok", r.ok},
                             {"worst", Json::object({{"tensor", r.worst.tensor},
                                                     {"error", r.worst.error},
                                                     {"tolerance", r.worst.tolerance}})},
                             {"compared", r.compared}}));
    rows.push_back({r.name, r.numerics, std::to_string(r.compared), r.worst.tensor,
                    fmt::format("{:.2g}", r.worst.error), fmt::format("{:.2g}", r.worst.tolerance),
                    r.ok ? "ok" : "differs"});
  }
  end_live();
  print_result(args, Json::object({{"ok", ok}, {"cases", cases}}), text_table(rows));
  if (!ok) throw Error(Exit::check, "");
}

}  // namespace

std::vector<Command> model_commands() {
  using Times = Option::Times;
  return {
      {"models",
       "parameters, multiply-adds and memory of models, from the configuration alone",
       "nfscale models nfnet_f0 nfnet_f3+ --size 256",
       {{"NAME", "", "models; without one all are listed", Times::any},
        {"--size", "PX", "side of the image", Times::maybe},
        {"--classes", "N", "number of classes", Times::maybe}},
       run_models},
      {"cost",
       "images, FLOPs and memory of a run before it starts",
       "nfscale cost --config configs/nano.toml --set train.duration=1e6ex",
       {{"--config", "F", "configuration of the run", Times::maybe},
        {"--set", "K=V", "one key of it", Times::any},
        {"--study", "F", "a study file", Times::maybe},
        {"--utilisation", "P", "per cent of a device's peak that training reaches, 40",
         Times::maybe},
        {"--paper", "", "the runs of the paper", Times::maybe}},
       run_cost},
      {"parity",
       "compares this program with reference results stored in golden files",
       "nfscale parity tests/golden/train-dm-even.safetensors",
       {{"FILE", "", "golden files", Times::some},
        {"--precision", "P", "f32 or f64", Times::maybe},
        {"--numerics", "N", "deepmind or timm instead of the file's own", Times::maybe}},
       run_parity_command},
  };
}

}  // namespace nfscale
