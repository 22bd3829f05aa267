// pretrain, finetune, eval, predict: training and the use of what was trained.
#include "train/train.h"
#include "base/csv.h"
#include "base/files.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/command.h"
#include "train/device.h"
#include "train/evaluate.h"
#include "train/predict.h"
#include "train/weights_file.h"

namespace nfscale {
namespace {

at::Device device_of(const Args& args) {
  return open_device(args.text("--device", "cpu"));
}

void run_training(const Args& args, bool finetune) {
  const at::Device device = device_of(args);
  if (args.has("--init") && args.has("--fork"))
    fail(Exit::usage, "--fork: goes on with the weights of its trunk; leave out --init");
  if (args.integer("--nproc", 1, 1, 1 << 16) > 1) not_supported("--nproc above 1");
  const std::string resume = args.text("--resume", "auto");
  if (resume != "auto" && resume != "never")
    fail(Exit::usage, "--resume: expected auto or never, found {}", resume);
  train(load_config(args.path("--config"), args.all("--set")), {.out = *args.path("--out"),
                                                                .init = args.path("--init"),
                                                                .finetune = finetune,
                                                                .fork = args.text("--fork"),
                                                                .resume = resume,
                                                                .threads = args.threads(),
                                                                .device = device});
}

void run_pretrain(const Args& args) {
  run_training(args, false);
}

void run_finetune(const Args& args) {
  run_training(args, true);
}

std::string check_ema(const Args& args) {
  const std::string ema = args.text("--ema");
  if (!ema.empty() && ema != "on" && ema != "off")
    fail(Exit::usage, "--ema: expected on or off, found {}", ema);
  return ema;
}

void set_threads(const Args& args) {
  at::set_num_threads(args.threads());
}

// A model may have more classes than its data had names for.
std::string class_name(const std::vector<std::string>& names, int64_t c) {
  const auto at = static_cast<size_t>(c);
  return at < names.size() ? printable(names[at]) : std::to_string(c);
}

void add_classes(const Evaluation& e, const std::vector<std::string>& names, Json& document) {
  Json classes = Json::array(), confused = Json::array();
  const auto name = [&](int64_t c) { return class_name(names, c); };
  for (size_t c = 0; c < e.classes.size(); ++c)
    classes.push(Json::object({{"class", name(static_cast<int64_t>(c))},
                               {"examples", e.classes[c].examples},
                               {"right", e.classes[c].right},
                               {"loss", e.classes[c].loss}}));
  for (const Evaluation::Confusion& c : e.confused)
    confused.push(Json::object(
        {{"label", name(c.label)}, {"predicted", name(c.predicted)}, {"count", c.count}}));
  document.set("classes", classes).set("confused", confused);
}

// The classes that are known worst, and what is taken for what most often.
std::string classes_text(const Evaluation& e, const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  const auto name = [&](size_t c) { return class_name(names, static_cast<int64_t>(c)); };
  std::vector<std::pair<double, size_t>> order;
  for (size_t c = 0; c < e.classes.size(); ++c)
    if (e.classes[c].examples > 0)
      order.emplace_back(
          static_cast<double>(e.classes[c].right) / static_cast<double>(e.classes[c].examples), c);
  std::stable_sort(order.begin(), order.end());
  std::vector<std::string> worst, confused;
  for (const auto& [right, c] : order)
    if (right < 1 && worst.size() < kShown)
      worst.push_back(fmt::format("{} {:.0f} %", name(c), 100 * right));
  for (const Evaluation::Confusion& c : e.confused)
    if (confused.size() < kShown)
      confused.push_back(fmt::format("{} for {} ({})", name(static_cast<size_t>(c.predicted)),
                                     name(static_cast<size_t>(c.label)), c.count));
  return (worst.empty() ? "" : "lowest accuracy: " + join(worst, ", ") + "\n") +
         (confused.empty() ? "" : "most often taken: " + join(confused, ", ") + "\n");
}

void run_eval(const Args& args) {
  const at::Device device = device_of(args);
  set_threads(args);
  catch_stop_signals();
  TrainedModel trained = load_trained(*args.path("CKPT"), check_ema(args), args.text("--model"));
  if (trained.foreign)
    say("{}: no metadata of nfscale: taken for {}, EXIF orientation ignored, crop {}",
        trained.file.string(), trained.model.arch.name, trained.data.eval_crop);
  const int64_t size = args.integer("--size", trained.eval_size, 1, 65500);
  const auto source = open_source({args.text("--data")});
  Csv predictions{"predictions", {"index", "key", "label", "predicted", "probability", "loss"}, {}};
  EvaluateOptions options = evaluate_options(trained, std::max(1, args.threads() / 2));
  options.size = size;
  options.views = static_cast<int>(args.integer("--views", 1, 1, 10));
  if (options.views != 1 && options.views != 2 && options.views != 5 && options.views != 10)
    fail(Exit::usage, "--views: expected 1, 2, 5 or 10, found {}", options.views);
  if (args.has("--predictions"))
    options.each = [&](const ExamplePrediction& p) {
      predictions.rows.push_back({std::to_string(predictions.rows.size()), printable(p.key),
                                  std::to_string(p.label), std::to_string(p.predicted),
                                  csv_number(p.probability), csv_number(p.loss)});
    };
  const Evaluation e = evaluate(on_device(trained.model, device), source, options);
  if (args.has("--predictions")) write_file(*args.path("--predictions"), csv_text(predictions));
  Json document = e.json();
  document.set("broken", e.broken)
      .set("image_size", size)
      .set("views", options.views)
      .set("ema", trained.ema);
  add_classes(e, options.class_names, document);
  print_result(
      args, document,
      fmt::format(
          "loss {:.4f} +- {:.2g}  top-1 {:.2f} %  top-5 {:.2f} %  calibration error {:.2f} %"
          "  of {} examples at {} px{}{}{}\n{}",
          e.loss, e.loss_se, 100 * e.top1, 100 * e.top5, 100 * e.ece, e.examples, size,
          options.views > 1 ? fmt::format(", {} views", options.views) : "",
          e.broken ? fmt::format(", {} broken", e.broken) : "", trained.ema ? ", EMA" : "",
          classes_text(e, options.class_names)));
}

Json picture_json(const PictureResult& result) {
  Json entry = Json::object({{"file", printable(result.file.string())}});
  if (!result.error.empty()) return entry.set("error", result.error);
  Json list = Json::array();
  for (const PictureResult::Top& t : result.top)
    list.push(Json::object({{"class", t.index}, {"name", t.name}, {"p", t.probability}}));
  return entry.set("top", list);
}

std::string picture_text(const PictureResult& result) {
  std::string text = printable(result.file.string()) + ":";
  if (!result.error.empty()) return text + " " + result.error + "\n";
  for (const PictureResult::Top& t : result.top)
    text += fmt::format("  {} {:.1f} %", t.name, 100 * t.probability);
  return text + "\n";
}

void run_predict(const Args& args) {
  const at::Device device = device_of(args);
  set_threads(args);
  catch_stop_signals();
  TrainedModel trained = load_trained(*args.path("CKPT"), "", args.text("--model"));
  trained.model = on_device(trained.model, device);
  const std::vector<Path> files = picture_files(args.all("FILE"));
  Json images = Json::array();
  size_t done = 0, broken = 0;
  const double begun = now_s();
  predict(trained, files,
          {.size = args.integer("--size", trained.eval_size, 1, 65500),
           .top = args.integer("--top", std::min<int64_t>(5, trained.model.arch.classes), 1,
                               trained.model.arch.classes),
           .batch = args.integer("--batch", 16, 1, 65536),
           .threads = std::max(1, args.threads() / 2)},
          [&](const PictureResult& result) {
            broken += !result.error.empty();
            if (args.json())
              images.push(picture_json(result));
            else
              print(picture_text(result));
            if (++done % 100 == 0)
              live(fmt::format("pictures {}/{}  {:.1f} a second", done, files.size(),
                               static_cast<double>(done) / (now_s() - begun)));
          });
  end_live();
  if (done >= 100)
    say("{} pictures in {}, {:.1f} a second", done, duration_text(now_s() - begun),
        static_cast<double>(done) / (now_s() - begun));
  if (args.json()) print_result(args, Json::object({{"images", images}}), "");
  if (broken) throw Error(Exit::usage, "");
}

}  // namespace

std::vector<Command> train_commands() {
  using Times = Option::Times;
  const Option config = {"--config", "F", "configuration (TOML); keys: nfscale config",
                         Times::maybe},
               set = {"--set", "K=V", "one key, over the file", Times::any};
  const Option out = {"--out", "RUN", "run directory; the same command goes on with it",
                      Times::once},
               device = {"--device", "D", "cpu, cuda, or cuda:N: a GPU by its number",
                         Times::maybe};
  const Option nproc = {"--nproc", "N", "processes", Times::maybe},
               resume = {"--resume", "R", "auto or never", Times::maybe};
  const Option model = {"--model", "NAME", "architecture of a file that does not say",
                        Times::maybe},
               size = {"--size", "PX", "side of the image", Times::maybe};
  const Option checkpoint = {"CKPT", "", "run directory, checkpoint folder or .safetensors file",
                             Times::once};
  return {
      {"pretrain",
       "trains a model from a configuration; goes on where it was stopped",
       "nfscale pretrain --config configs/nano.toml --set data.train=shapes:?count=2000 --out "
       "runs/first",
       {config,
        set,
        out,
        {"--init", "CKPT", "weights to start from instead of random ones", Times::maybe},
        {"--fork", "RUN@STEP", "go on from that checkpoint of another run, to another end",
         Times::maybe},
        resume,
        nproc,
        device},
       run_pretrain},
      {"finetune",
       "trains a model with a new classifier on from what another run, or timm, learned",
       "nfscale finetune --config configs/finetune.toml --init runs/first --set "
       "data.train=folder:other/train --out runs/second",
       {config,
        set,
        out,
        {"--init", "CKPT", "a run, a checkpoint, or a file of timm", Times::once},
        resume,
        nproc,
        device},
       run_finetune},
      {"eval",
       "held-out loss and accuracy of a model",
       "nfscale eval runs/first --data shapes:?split=heldout&count=500",
       {checkpoint,
        {"--data", "SPEC", "source of the examples", Times::once},
        size,
        {"--ema", "on|off", "the average of the weights, or the weights themselves", Times::maybe},
        {"--views", "N",
         "parts of a picture that are averaged: 2: mirrored too, 5: corners too, 10: both",
         Times::maybe},
        {"--predictions", "FILE.csv", "a row for every example", Times::maybe},
        model,
        device},
       run_eval},
      {"predict",
       "classes of pictures",
       "nfscale predict runs/first pictures/ --top 3",
       {checkpoint,
        {"FILE", "", "pictures, or folders of them", Times::some},
        {"--top", "K", "classes shown", Times::maybe},
        {"--batch", "N", "pictures at a time, 16: more speed where there is memory", Times::maybe},
        size,
        model,
        device},
       run_predict},
  };
}

}  // namespace nfscale
