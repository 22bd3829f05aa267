// models, parity: what a model is, without training it.
#include "arch/arch.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/command.h"
#include "train/parity.h"

namespace nfscale {
namespace {

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
