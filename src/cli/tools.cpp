// config, doctor, bench, export: about the program, not about one model.
#include <ATen/Parallel.h>

#include <chrono>

#include "arch/arch.h"
#include "base/cpu.h"
#include "base/files.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "base/toml.h"
#include "cli/command.h"
#include "config/load.h"
#include "model/onnx.h"
#include "train/bench.h"
#include "train/bench_kernels.h"
#include "train/device.h"
#include "train/weights_file.h"

namespace nfscale {
namespace {

void run_config(const Args& args) {
  if (args.has("--explain")) {
    const KeyHelp k = explain_key(args.text("--explain"));
    return print_result(args,
                        Json::object({{"key", k.key},
                                      {"kind", k.kind},
                                      {"default", k.fallback},
                                      {"allowed", k.allowed},
                                      {"help", k.help}}),
                        fmt::format("{} ({}, default {}){}\n  {}\n", k.key, k.kind, k.fallback,
                                    k.allowed.empty() ? "" : ": " + k.allowed, k.help));
  }
  const LoadedConfig loaded = load_config(args.path("--config"), args.all("--set"));
  // A configuration that no model fits is refused here, not hours later.
  if (const ModelConfig& model = loaded.config.model; !model.name.empty()) {
    try {
      make_arch(model, default_classes(model.name), sides_of(loaded.config.train.image_size));
    } catch (const Error& e) {
      fail(e.code, "{}: {}", loaded.origins["model.name"], e.what());
    }
  }
  Json values = Json::object();
  std::vector<std::vector<std::string>> rows;
  size_t key_width = 0;
  for (const auto& [key, value] : config_values(loaded.config)) {
    values.set(key, Json::object({{"value", value}, {"from", loaded.origins[key]}}));
    rows.push_back({key, value.is_null() ? "-" : toml_text(value), loaded.origins[key]});
    key_width = std::max(key_width, key.size());
  }
  std::string text;
  for (const auto& row : rows)
    text += fmt::format("{:<{}}  {}  # {}\n", row[0], key_width, row[1], row[2]);
  print_result(args, Json::object({{"values", values}}), text);
}

std::string first_line(const std::string& text) {
  return printable(split(text, '\n').front());
}

// What a study could submit to: Slurm, where sbatch is here, by its own words. A command of it that
// is not here or does not answer is said in `missing`, before somebody finds out by a study that
// waits.
Json list_schedulers(Json& missing) {
  constexpr double kPatienceSeconds = 10;
  Json schedulers = Json::array();
  const std::vector<std::vector<std::string>> questions = {{"sbatch", "--version"},
                                                           {"scontrol", "--version"},
                                                           {"scancel", "--version"},
                                                           {"squeue", "--noheader", "--me"}};
  for (const std::vector<std::string>& question : questions) {
    const CommandResult answer = run_command(question, kPatienceSeconds);
    const std::string& program = question[0];
    const bool first = schedulers.items().empty();
    if (answer.code == 127 && first) break;
    if (answer.timed_out)
      missing.push(fmt::format("Slurm: {} does not answer in {} s", program, kPatienceSeconds));
    else if (answer.code == 127)
      missing.push(fmt::format("Slurm: sbatch is here, {} is not", program));
    else if (answer.code != 0)
      missing.push(fmt::format("Slurm: {} says: {}", program, first_line(answer.err)));
    else if (first)
      schedulers.push(first_line(answer.out));
    if (schedulers.items().empty()) break;  // without sbatch the others do not matter
  }
  return schedulers;
}

// What this build or machine cannot do, and what is done instead.
Json missing_parts() {
  Json missing = Json::array();
  for (const std::string& text : list_devices().missing) missing.push(text);
  if (cpu_precision() == "f32")
    missing.push("bfloat16 arithmetic (AVX512-BF16 or AMX): train.precision \"auto\" means f32");
  if (free_space(".") < size_t{1} << 30) missing.push("disk: less than 1 GB is free here");
  return missing;
}

void run_doctor(const Args& args) {
  Json devices = Json::array();
  for (const std::string& device : list_devices().devices) devices.push(device);
  Json missing = missing_parts();
  const Json schedulers = list_schedulers(missing);
  const Json document = Json::object({{"nfscale", NFSCALE_VERSION},
                                      {"torch", torch_version()},
                                      {"isa", isa_level()},
                                      {"precision", cpu_precision()},
                                      {"threads", args.threads()},
                                      {"devices", devices},
                                      {"schedulers", schedulers},
                                      {"host", host_name()},
                                      {"free_disk_bytes", free_space(".")},
                                      {"missing", missing}});
  std::string text;
  for (const auto& [key, value] : document.members())
    text += fmt::format("{:<16} {}\n", key, value.is_string() ? value.as_string() : value.dump());
  print_result(args, document, text);
}

BenchOptions bench_options(const Args& args) {
  at::set_num_threads(args.threads());
  BenchOptions o;
  const std::string model = args.text("--model", "nfnet_f0");
  o.config = bench_config(model, args.integer("--size", default_size(model), 1, 65500),
                          args.integer("--batch", 8, 1, 1 << 20));
  o.classes = default_classes(model);
  for (const std::string& setting : args.all("--set")) {
    const size_t at = setting.find('=');
    if (at == std::string::npos)
      fail(Exit::usage, "--set {}: expected KEY=VALUE", printable(setting));
    set_key(o.config, setting.substr(0, at), parse_toml_value(setting.substr(at + 1)), "--set");
  }
  resolve(o.config);
  o.device = open_device(args.text("--device", "cpu"));
  o.precision = args.text("--precision", auto_precision(o.device));
  if (o.precision != "bf16" && o.precision != "f32")
    fail(Exit::usage, "--precision: expected bf16 or f32, found {}", o.precision);
  return o;
}

void run_bench_kernels(const Args& args) {
  const BenchOptions o = bench_options(args);
  const KernelBench bench = bench_kernels(o);
  Json kernels = Json::array();
  std::string text = fmt::format(
      "matrix product of 1024 x 1024: {:.3f} TFLOP/s; a += b in memory: {:.1f} GB/s\n"
      "{:<32} {:<44} {:>5} {:>9} {:>14} {:>6}\n",
      bench.gemm_tflops, bench.bandwidth_gb_s, "kernel", "shape", "times", "us", "rate", "share");
  for (const KernelTime& k : bench.kernels) {
    kernels.push(Json::object({{"name", k.name},
                               {"shape", k.shape},
                               {"times", k.times},
                               {"us", k.us},
                               {"tflops", k.tflops > 0 ? Json(k.tflops) : Json()},
                               {"gb_s", k.gb_s > 0 ? Json(k.gb_s) : Json()},
                               {"share", k.share}}));
    const std::string rate =
        k.tflops > 0 ? fmt::format("{:.3f} TFLOP/s", k.tflops) : fmt::format("{:.1f} GB/s", k.gb_s);
    text += fmt::format("{:<32} {:<44} {:>5} {:>9.0f} {:>14} {:>5.0f}%\n", k.name, k.shape, k.times,
                        k.us, rate, 100 * k.share);
  }
  print_result(args,
               Json::object({{"model", o.config.model.name},
                             {"image_size", o.config.train.image_size},
                             {"batch", o.config.train.batch},
                             {"precision", o.precision},
                             {"threads", args.threads()},
                             {"gemm_tflops", bench.gemm_tflops},
                             {"bandwidth_gb_s", bench.bandwidth_gb_s},
                             {"kernels", kernels}}),
               text);
}

void run_bench_step(const Args& args) {
  BenchOptions o = bench_options(args);
  const std::string mode = args.text("--mode", "train");
  if (mode != "train" && mode != "eval")
    fail(Exit::usage, "--mode: expected train or eval, found {}", mode);
  o.evaluation = mode == "eval";
  o.seconds = static_cast<double>(args.integer("--seconds", 20, 1, 86400));
  const BenchResult r = bench_step(o);
  const auto part = [&](double ms) { return r.has_parts ? Json(ms) : Json(); };
  const Json document = Json::object({{"model", o.config.model.name},
                                      {"image_size", o.config.train.image_size},
                                      {"batch", o.config.train.batch},
                                      {"mode", mode},
                                      {"precision", o.precision},
                                      {"device", device_text(o.device)},
                                      {"threads", args.threads()},
                                      {"images_per_s", r.images_per_s},
                                      {"ms", Json::object({{"forward", part(r.forward_ms)},
                                                           {"backward", part(r.backward_ms)},
                                                           {"update", part(r.update_ms)},
                                                           {"step", r.step_ms}})},
                                      {"tflops", r.tflops},
                                      {"mfu", r.mfu},
                                      {"gemm_tflops", r.gemm_tflops},
                                      {"peak_rss_bytes", peak_rss_bytes()},
                                      {"repeats", Json(r.repeats)}});
  print_result(
      args, document,
      fmt::format(
          "{} {} px batch {} {}: {:.1f} ms a {}{}, {:.1f} images/s, {:.3f} TFLOP/s = {:.0f} "
          "% of the matrix product's {:.3f}, peak memory {}\n",
          o.config.model.name, o.config.train.image_size, o.config.train.batch, o.precision,
          r.step_ms, o.evaluation ? "batch" : "step",
          r.has_parts ? fmt::format(" (forward {:.1f}, backward {:.1f}, update {:.1f})",
                                    r.forward_ms, r.backward_ms, r.update_ms)
                      : "",
          r.images_per_s, r.tflops, 100 * r.mfu, r.gemm_tflops,
          bytes_text(static_cast<double>(peak_rss_bytes()))));
}

void export_onnx(const Args& args) {
  const TrainedModel t = load_trained(*args.path("CKPT"));
  const Path out = *args.path("--out");
  OnnxOptions o;
  o.size = args.integer("--size", t.eval_size, 1, 65500);
  if (t.model.arch.is_vit() && o.size % t.model.arch.vit.patch != 0)
    fail(Exit::usage, "--size: patches of {} pixels do not divide {}", t.model.arch.vit.patch,
         o.size);
  o.data_name = out.filename().string() + ".data";
  o.metadata = {{"nfscale.classes", Json(t.class_names).dump()},
                {"nfscale.preprocessing", Json::object({{"mean", Json(t.data.mean)},
                                                        {"std", Json(t.data.std)},
                                                        {"eval_crop", t.data.eval_crop},
                                                        {"exif", t.data.exif},
                                                        {"image_size", o.size}})
                                              .dump()}};
  const OnnxFile file = onnx_model(t.model, o);
  if (!file.data.empty()) write_file(out.parent_path() / o.data_name, file.data);
  write_file(out, file.model);
  say("{}: {}, opset 17, {}{}", out.string(), t.model.arch.name,
      bytes_text(static_cast<double>(file.model.size() + file.data.size())),
      file.data.empty() ? "" : ", numbers in " + o.data_name);
}

void run_export(const Args& args) {
  const std::string format = args.text("--format");
  if (format == "onnx") return export_onnx(args);
  if (format != "safetensors")
    fail(Exit::usage, "--format: expected safetensors or onnx, found {}", format);
  if (args.has("--size")) fail(Exit::usage, "--size: only with --format onnx");
  const Path from = weight_file_of(*args.path("CKPT"));
  const SafetensorsFile file = read_safetensors(from);
  load_trained(*args.path("CKPT"));  // what does not fit a model is refused, not exported
  write_safetensors(*args.path("--out"), file.metadata, file.tensors);
  say("{}: {} tensors", args.text("--out"), file.tensors.size());
}

}  // namespace

std::vector<Command> tool_commands() {
  using Times = Option::Times;
  return {
      {"export",
       "the weights as a file for other programs",
       "nfscale export runs/first --format safetensors --out first.safetensors",
       {{"CKPT", "", "run directory, checkpoint folder or .safetensors file", Times::once},
        {"--format", "F", "safetensors, or onnx: a graph of plain operations", Times::once},
        {"--size", "PX", "side of the pictures in a graph, of Vision Transformers", Times::maybe},
        {"--out", "FILE", "the new file", Times::once}},
       run_export},
      {"bench step",
       "speed and memory of a training step, or of evaluating one batch",
       "nfscale bench step --model nfnet_n0 --size 32 --batch 64",
       {{"--model", "NAME", "model", Times::maybe},
        {"--size", "PX", "side of the image", Times::maybe},
        {"--batch", "N", "examples of a step", Times::maybe},
        {"--precision", "P", "bf16 or f32", Times::maybe},
        {"--mode", "M", "train, or eval: the forward pass alone", Times::maybe},
        {"--device", "D", "cpu, cuda, or cuda:N: a GPU by its number", Times::maybe},
        {"--seconds", "S", "how long to measure", Times::maybe},
        {"--set", "K=V", "a key of the configuration that is measured", Times::any}},
       run_bench_step},
      {"bench kernels",
       "speed of the single kernels, beside the machine's own rates",
       "nfscale bench kernels --model nfnet_n0 --size 32 --batch 64",
       {{"--model", "NAME", "whose convolutions", Times::maybe},
        {"--size", "PX", "side of the image", Times::maybe},
        {"--batch", "N", "examples", Times::maybe},
        {"--precision", "P", "bf16 or f32", Times::maybe}},
       run_bench_kernels},
      {"bench data",
       "speed of loading",
       "nfscale bench data",
       {},
       [](const Args&) { not_supported("bench data"); }},
      {"config",
       "the resolved configuration, with the origin of every value",
       "nfscale config --config configs/nano.toml --set train.batch=128",
       {{"--config", "F", "configuration (TOML)", Times::maybe},
        {"--set", "K=V", "one key, over the file", Times::any},
        {"--explain", "KEY", "what a key means", Times::maybe}},
       run_config},
      {"doctor",
       "versions, processor, disk, and what is missing",
       "nfscale doctor --json",
       {},
       run_doctor},
  };
}

}  // namespace nfscale
