#include "train/train.h"

#include <ATen/Context.h>
#include <ATen/ops/isfinite.h>

#include <ctime>

#include "arch/cost.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "config/schedule.h"
#include "data/certificate.h"
#include "data/loader.h"
#include "data/mix.h"
#include "model/init.h"
#include "train/backbone.h"
#include "train/bench.h"
#include "train/device.h"
#include "train/device_times.h"
#include "train/evaluate.h"
#include "train/fork.h"
#include "train/metrics.h"
#include "train/run.h"
#include "train/step.h"
#include "train/weights_file.h"

namespace nfscale {
namespace {

// All of a run that is not a tensor: what state.json holds.
struct Progress {
  uint64_t g = 0;  // applied slots: the only state of the data
  uint64_t step = 0, broken = 0;
  Certificate certificate;
  DamageCount damage;
  DeviceTimes times;
  std::vector<double> losses;  // of the last steps, for result.json
  double wall_s = 0;           // in all starts together
};

struct Run {
  const LoadedConfig& loaded;
  const Config& config;
  TrainOptions options;
  std::shared_ptr<const Source> train, heldout;
  std::optional<Fork> fork;
  std::optional<TrainedModel> backbone;  // until the run starts
  RunDirectory directory;
  Horizon horizon;
  uint64_t total_steps;
  Schedule schedule;
  Model model;
  Ema ema;
  Optimizer optimizer;
  std::string device_kind;
  Progress progress;
  Metrics metrics;
  AppendLog ledger;
  double started = now_s();
  double saved_at = now_s(), logged_at = 0;
  double save_s = 0;  // the longest time that saving took
};

constexpr size_t kRecentLosses = 100;

at::ScalarType compute_of(const Run& run) {
  return compute_type(run.directory.identity.precision);
}
bool averages(const Run& run) {
  return run.ema.decay > 0;
}

// On a CPU a device is a core.
int64_t devices_of(const Run& run) {
  return run.options.device == at::kCPU ? run.options.threads : 1;
}

// ---------------------------------------------------------------- state on disk
Json state_of(const Run& run) {
  const Progress& p = run.progress;
  return Json::object({{"g", p.g},
                       {"step", p.step},
                       {"broken", p.broken},
                       {"certificate", p.certificate.to_json()},
                       {"damage", Json::object({{"epoch", p.damage.epoch},
                                                {"seen", p.damage.seen},
                                                {"broken", p.damage.broken}})},
                       {"device_times", p.times.to_json()},
                       {"losses", Json(p.losses)},
                       {"wall_s", p.wall_s + now_s() - run.started}});
}

std::map<std::string, std::string> metadata_of(const Run& run, bool ema) {
  const std::vector<std::string> names =
      run.train->named() ? run.train->classes() : std::vector<std::string>{};
  return weight_metadata(run.config, run.model.arch, names, run.directory.identity.precision, ema);
}

void save(Run& run) {
  const double begun = now_s();
  const Path folder = run.directory.path / "checkpoints";
  CheckpointContent content{.step = run.progress.step,
                            .metadata = metadata_of(run, false),
                            .tensors = {},
                            .state = state_of(run)};
  content.tensors["model"] = weight_views(run.model, run.model.weights);
  content.tensors["optimizer"] = tensor_views(run.optimizer.state());
  if (averages(run)) content.tensors["ema"] = weight_views(run.model, run.ema.average);
  run.directory.lease->check();
  save_checkpoint(folder, content);
  const Duration& every = run.config.checkpoint.keep_every;
  const auto period =
      static_cast<uint64_t>(every.value > 0 ? std::max(1.0, in_steps(every, run.horizon)) : 0);
  prune_checkpoints(folder, run.config.checkpoint.keep_last,
                    [&](uint64_t step) { return period && step % period == 0; });
  run.saved_at = now_s();
  run.save_s = std::max(run.save_s, run.saved_at - begun);
}

void load_tensors(const Model& like, const Path& file, std::vector<at::Tensor>& into) {
  Model view{like.arch, like.params, into};
  load_weights(view, read_safetensors(file));
}

void restore(Run& run, const FoundCheckpoint& found) {
  load_tensors(run.model, found.folder / "model.safetensors", run.model.weights);
  load_named(run.optimizer.state(), read_safetensors(found.folder / "optimizer.safetensors"),
             "the optimizer");
  if (averages(run)) load_tensors(run.model, found.folder / "ema.safetensors", run.ema.average);
  Progress& p = run.progress;
  const Json& s = found.state;
  p.g = static_cast<uint64_t>(s.at("g").as_int());
  p.step = static_cast<uint64_t>(s.at("step").as_int());
  p.broken = static_cast<uint64_t>(s.at("broken").as_int());
  p.certificate = Certificate::from_json(s.at("certificate"), run.train->size(),
                                         static_cast<uint32_t>(run.config.data.augment.repeat));
  const Json& damage = s.at("damage");
  p.damage = {static_cast<uint64_t>(damage.at("epoch").as_int()),
              static_cast<uint64_t>(damage.at("seen").as_int()),
              static_cast<uint64_t>(damage.at("broken").as_int())};
  // Earlier versions kept one kind of device.
  if (const Json* times = s.find("device_times"))
    p.times = DeviceTimes::from_json(*times);
  else
    p.times.of(run.device_kind, devices_of(run)) = StepTimes::from_json(s.at("step_times"));
  for (const Json& loss : s.at("losses").items()) p.losses.push_back(loss.as_double());
  p.wall_s = s.at("wall_s").as_double();
  say("{} {} at step {} of {}", run.directory.checkpoint ? "resuming from" : "a fork of",
      run.directory.checkpoint ? found.folder.filename().string() : run.options.fork, p.step,
      run.total_steps);
}

// The lines of steps up to `g`; what a later step wrote before a kill goes.
void open_ledger(Run& run) {
  if (run.config.data.ledger == "off") return;
  const Path path = run.directory.path / "ledger.jsonl";
  const std::string text = is_there(path) ? read_file(path, size_t{1} << 36) : "";
  size_t kept = 0;
  for (size_t end; (end = text.find('\n', kept)) != std::string::npos; kept = end + 1) {
    const Json line = parse_json(std::string_view(text).substr(kept, end - kept), path.string());
    if (line.at("end").as_int() > static_cast<int64_t>(run.progress.g)) break;
  }
  run.ledger = AppendLog(path);
  run.ledger.cut(kept);
}

// ---------------------------------------------------------------- reports
// On the devices of this start, else on those before; seconds.
double typical_step(const Run& run) {
  const std::vector<DeviceTime>& all = run.progress.times.all();
  for (const DeviceTime& t : all)
    if (t.kind == run.device_kind && t.devices == devices_of(run)) return t.times.median();
  return all.empty() ? 0 : all.back().times.median();  // nothing was left to do here
}

Json compute_json(const Run& run, bool done) {
  const Progress& p = run.progress;
  const int64_t size = run.config.train.image_size, macs = run.model.arch.macs(size, size);
  const double images = static_cast<double>(p.g), typical = typical_step(run);
  const double ascent = ascent_share(run.config.optim, run.config.train.batch);
  const double step_flops =
      training_flops(macs, static_cast<double>(run.config.train.batch), ascent);
  // The machine's own rate, measured now: what others do on it slows both alike.
  Json mfu;
  if (done && typical > 0)
    mfu = step_flops / typical /
          (1e12 * matrix_product_tflops(run.directory.identity.precision, run.options.device));
  Json by_device = Json::array();
  for (const DeviceTime& t : p.times.all())
    by_device.push(
        Json::object({{"kind", t.kind},
                      {"devices", t.devices},
                      {"steps", t.times.count()},
                      {"step_s", t.times.median()},
                      {"device_seconds", t.device_seconds()},
                      {"flops_per_device_s",
                       step_flops / (t.times.median() * static_cast<double>(t.devices))}}));
  // What a fork shares with the other forks of its trunk, to be paid once.
  Json trunk;
  if (run.fork)
    trunk = Json::object(
        {{"run", run.fork->trunk},
         {"step", run.fork->step},
         {"examples", run.fork->examples},
         {"flops", training_flops(macs, static_cast<double>(run.fork->examples), ascent)},
         {"share", static_cast<double>(run.fork->examples) / std::max(1.0, images)}});
  return Json::object(
      {{"flops", training_flops(macs, images, ascent)},
       {"trunk", trunk},
       {"device", device_text(run.options.device)},
       {"devices", devices_of(run)},
       {"device_hours", p.times.device_seconds() / 3600},
       {"by_device", by_device},
       {"step_s", typical},
       {"wall_s", p.wall_s + now_s() - run.started},
       {"mfu", mfu},
       {"save_s", run.save_s},
       {"images_per_s", typical > 0 ? static_cast<double>(run.config.train.batch) / typical : 0}});
}

// `fault` is what ended a run that was not finished.
Json result_of(const Run& run, const std::string& status, const Evaluation* heldout,
               const Error* fault = nullptr) {
  const Progress& p = run.progress;
  double loss = 0;
  for (const double l : p.losses) loss += l / static_cast<double>(p.losses.size());
  const int64_t size = run.config.train.image_size;
  Json result = Json::object(
      {{"status", status},
       {"steps", p.step},
       {"examples", p.g},
       {"epochs", static_cast<double>(p.g) / static_cast<double>(run.horizon.examples)},
       {"heldout", heldout ? heldout->json() : Json()},
       {"train", Json::object({{"loss", p.losses.empty() ? Json() : Json(loss)}})},
       {"model", Json::object({{"name", run.model.arch.name},
                               {"params", run.model.arch.param_count()},
                               {"macs", run.model.arch.macs(size, size)}})},
       {"compute", compute_json(run, !fault)},
       {"certificate", Json::object({{"ok", !fault || fault->code != Exit::defect},
                                     {"sum", p.certificate.sum()},
                                     {"epochs", p.certificate.closed()}})},
       {"data", Json::object({{"broken", p.broken},
                              {"fingerprint", run.directory.identity.train_fingerprint}})},
       {"peak_rss_bytes", peak_rss_bytes()},
       {"config_hash", run.directory.id},
       {"seed", run.config.train.seed}});
  if (fault && *fault->what()) result.set("reason", fault->what());
  return result;
}

// Each broken picture by name, up to a number of lines in every epoch; all are counted.
void report_broken(Run& run, const Batch& batch) {
  constexpr uint64_t kLines = 20;
  Progress& p = run.progress;
  for (const Broken& b : batch.broken) {
    ++p.broken;
    const uint64_t n = p.damage.broken + static_cast<uint64_t>(&b - batch.broken.data());
    if (n < kLines)
      warn("broken picture: {} in {} at byte {}: {} (slot {} keeps its place with weight 0)",
           printable(b.key), b.file, b.offset, b.reason, b.slot);
    else if (n == kLines)
      warn(
          "more broken pictures in this epoch are counted, not named; nfscale data check lists "
          "all");
  }
}

std::string progress_line(const Run& run, const StepResult& s, double lr) {
  const Progress& p = run.progress;
  const double typical = typical_step(run);
  return fmt::format(
      "{}  step {}/{}  epoch {:.2f}  loss {:.4f}  top-1 {:.1f} %  lr {:.4g}  {:.0f} images/s  ETA "
      "{}",
      run.model.arch.name, p.step, run.total_steps,
      static_cast<double>(p.g) / static_cast<double>(run.horizon.examples), s.loss, 100 * s.top1,
      lr, static_cast<double>(run.config.train.batch) / typical,
      duration_text(typical * static_cast<double>(run.total_steps - p.step)));
}

bool due(const Duration& every, const Run& run, double last) {
  if (every.value <= 0) return false;
  if (every.unit == Duration::Unit::seconds) return now_s() - last >= every.value;
  const double period = std::max(1.0, in_steps(every, run.horizon));
  // The first step at or behind each multiple of the period.
  const auto n = static_cast<double>(run.progress.step);
  return std::floor(n / period) > std::floor((n - 1) / period);
}

void log_step(Run& run, const StepResult& s, double lr, double step_s, double waited) {
  const Progress& p = run.progress;
  // Of a step whose pictures are all broken nothing is known.
  const auto measured = [&](double value) { return s.empty ? Json() : Json(value); };
  run.metrics.write(
      Json::object({{"step", p.step},
                    {"examples", p.g},
                    {"epoch", static_cast<double>(p.g) / static_cast<double>(run.horizon.examples)},
                    {"loss", measured(s.loss)},
                    {"top1", measured(s.top1)},
                    {"lr", lr},
                    {"grad_norm", measured(s.stats.grad_norm)},
                    {"agc_clipped", s.stats.agc_clipped},
                    {"images_per_s", static_cast<double>(run.config.train.batch) / step_s},
                    {"data_wait_s", waited},
                    {"time", static_cast<double>(std::time(nullptr))}}));
  run.logged_at = now_s();
}

void count(Run& run, const Batch& batch) {
  Progress& p = run.progress;
  const uint64_t begin = p.g;
  for (const Slot& slot : batch.slots) p.certificate.add(slot.epoch, slot.example, slot.copy);
  p.damage.add(batch, run.config.data.max_damage);
  p.g += static_cast<uint64_t>(batch.count);
  ++p.step;
  if (run.ledger)
    run.ledger.append(Json::object({{"begin", begin},
                                    {"end", p.g},
                                    {"sum", p.certificate.sum()},
                                    {"epochs", p.certificate.closed()},
                                    {"broken", batch.broken.size()}})
                          .dump() +
                      "\n");
}

std::string status_of(Exit code) {
  switch (code) {
    case Exit::preempted:
      return "preempted";
    case Exit::diverged:
      return "diverged";
    case Exit::damaged:
      return "damaged";
    default:
      return "failed";
  }
}

// ---------------------------------------------------------------- the run
Evaluation evaluate_run(const Run& run) {
  Model model = run.model;
  if (averages(run)) model.weights = run.ema.average;
  return evaluate(on_device(model, run.options.device), run.heldout,
                  {.data = run.config.data,
                   .class_names = run.train->classes(),
                   .size = run.config.train.eval_size,
                   .batch = std::clamp<int64_t>(run.config.train.batch, 16, 256),
                   .threads = std::max(1, run.options.threads / 2),
                   .compute = compute_of(run),
                   .loss = run.config.loss.kind});
}

// The loss of a step is that of the weights before it, so the last step is looked at by itself.
void require_finite(const Run& run, const std::vector<at::Tensor>& weights) {
  for (const at::Tensor& w : weights)
    if (!at::isfinite(w).all().item<bool>())
      fail(Exit::diverged,
           "{}: diverged in step {}: the weights are not finite (a lower optim.lr may help)",
           run.directory.path.string(), run.progress.step);
}

void finish(Run& run) {
  require_finite(run, averages(run) ? run.ema.average : run.model.weights);
  std::optional<Evaluation> heldout;
  if (run.heldout) {
    heldout = evaluate_run(run);
    Json line = Json::object({{"step", run.progress.step},
                              {"examples", run.progress.g},
                              {"heldout", heldout->json()},
                              {"time", static_cast<double>(std::time(nullptr))}});
    run.metrics.write(line);
  }
  run.directory.lease->check();
  write_safetensors(run.directory.path / "model.safetensors", metadata_of(run, averages(run)),
                    weight_views(run.model, averages(run) ? run.ema.average : run.model.weights));
  write_result(run.directory.path, result_of(run, "done", heldout ? &*heldout : nullptr));
  end_live();
  if (heldout)
    say("done: {} steps, held-out loss {:.4f}, top-1 {:.2f} % of {} examples; {}",
        run.progress.step, heldout->loss, 100 * heldout->top1, heldout->examples,
        run.directory.path.string());
  else
    say("done: {} steps; no held-out set was given, so heldout is null; {}", run.progress.step,
        run.directory.path.string());
}

// The training loop. Everything that the order of examples depends on is progress.g.
void loop(Run& run) {
  Loader loader(run.train,
                training_options(run.config, run.options.threads, run.horizon.total_slots),
                run.progress.g);
  const auto stepper =
      make_stepper(run.options.device, run.model, run.optimizer, run.ema, compute_of(run),
                   {.loss = run.config.loss,
                    .micro_batch = run.directory.identity.micro_batch,
                    .seed = static_cast<uint64_t>(run.config.train.seed),
                    .sam = sam_settings(run.config.optim, run.model.params)});
  while (run.progress.step < run.total_steps) {
    const double began = now_s(), waited_before = loader.waited_s();
    const Batch& batch = loader.next();
    report_broken(run, batch);
    const double lr = learning_rate(run.schedule, run.progress.step);
    const StepResult s = stepper->step(batch, loader.ready(), lr, run.progress.step);
    if (!s.finite)
      fail(Exit::diverged,
           "{}: diverged in step {}: the loss or its gradient is not finite (a lower optim.lr, or "
           "optim.clip_norm, may help)",
           run.directory.path.string(), run.progress.step + 1);
    count(run, batch);
    Progress& p = run.progress;
    if (!s.empty) {
      if (p.losses.size() == kRecentLosses) p.losses.erase(p.losses.begin());
      p.losses.push_back(s.loss);
    }
    const double step_s = now_s() - began;
    p.times.of(run.device_kind, devices_of(run)).add(step_s);
    if (due(run.config.log.every, run, run.logged_at))
      log_step(run, s, lr, step_s, loader.waited_s() - waited_before);
    live(progress_line(run, s, lr));
    if (run.directory.lease->is_lost()) run.directory.lease->check();
    const bool stop = stop_requested();
    if (stop || p.step == run.total_steps || due(run.config.checkpoint.every, run, run.saved_at)) {
      stepper->to_host();
      save(run);
    }
    if (stop && p.step < run.total_steps) throw Error(Exit::preempted, "");
  }
}

// ---------------------------------------------------------------- before the first step
Schedule make_schedule(const Config& config, const Horizon& horizon, uint64_t total_steps) {
  Schedule s{.kind = config.schedule.kind,
             .peak = *config.optim.lr,
             .warmup_steps = in_steps(config.schedule.warmup, horizon),
             .total_steps = static_cast<double>(total_steps),
             .final_rate = *config.optim.lr * config.schedule.final_fraction,
             .cooldown_steps = in_steps(config.schedule.cooldown, horizon),
             .timescale = in_steps(config.schedule.timescale, horizon)};
  if (s.timescale <= 0) s.timescale = std::max(1.0, s.warmup_steps);
  if (s.warmup_steps > s.total_steps)
    fail(Exit::usage, "schedule.warmup: {} is {:.1f} steps, longer than the run of {}",
         duration_key_text(config.schedule.warmup), s.warmup_steps, total_steps);
  return s;
}

size_t bytes_in(const Path& folder) {
  size_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator i(folder, error), end; !error && i != end;
       i.increment(error)) {
    std::error_code none;
    if (const auto size = i->file_size(none); !none) bytes += size;
  }
  return bytes;
}

void check_space(const Run& run) {
  const auto params = static_cast<size_t>(run.model.arch.param_count());
  const size_t moments = run.config.optim.name == "adamw" ? 2 : 1,
               copies = 1 + moments + averages(run),
               kept = static_cast<size_t>(run.config.checkpoint.keep_last) + 1;
  // What a run that goes on has there already is written over in time.
  const size_t needed = 4 * params * (copies * kept + 1) + (size_t{1} << 16),
               free = free_space(run.directory.path) + bytes_in(run.directory.path / "checkpoints");
  if (free < needed)
    fail(Exit::system,
         "{}: {} are free, checkpoints and weights need {}; fewer checkpoint.keep_last, or another "
         "--out",
         run.directory.path.string(), bytes_text(static_cast<double>(free)),
         bytes_text(static_cast<double>(needed)));
}

// A fork computes as its trunk did, on the same examples.
void join_trunk(const Fork& fork, const Schedule& schedule, uint64_t total_steps,
                RunIdentity& identity) {
  if (identity.train_fingerprint != fork.identity.train_fingerprint)
    fail(Exit::usage, "--fork: data.train is not the training set of the trunk");
  if (fork.step >= total_steps)
    fail(Exit::usage, "--fork: the trunk is at step {} already, this run ends at step {}",
         fork.step, total_steps);
  const double cooldown = static_cast<double>(total_steps) - schedule.cooldown_steps;
  if (static_cast<double>(fork.step) > cooldown)
    fail(Exit::usage, "--fork: the trunk is at step {} already, the cool-down begins at step {:g}",
         fork.step, cooldown);
  identity.precision = fork.identity.precision;
  identity.micro_batch = fork.identity.micro_batch;
  identity.init_hash = hash128(MappedFile(fork.checkpoint.folder / "MANIFEST").bytes());
}

Run open(LoadedConfig& loaded, const TrainOptions& options) {
  std::optional<TrainedModel> backbone;
  if (options.finetune) {
    backbone = load_trained(*options.init);
    require_finite(*backbone);
    take_backbone(loaded, *backbone);
  }
  Config& config = loaded.config;
  resolve(config);
  if (config.data.train.empty())
    fail(
        Exit::usage,
        "data.train is not set: where are the training pictures? e.g. data.train = \"folder:DIR\"");
  if (options.device != at::kCPU && mixes(config.data.augment))
    not_supported("--device cuda with data.augment.mixup and cutmix");
  auto train = open_source(config.data.train);
  require_training_set(*train);
  if (train->classes().size() == 1)
    fail(Exit::usage, "data.train has one class, {}: there is nothing to tell apart",
         printable(train->classes().front()));
  std::shared_ptr<const Source> heldout;
  if (!config.data.heldout.empty()) heldout = open_source(config.data.heldout);
  if (heldout) match_classes(*heldout, train->classes());
  const auto classes = static_cast<int64_t>(train->classes().size());
  Arch arch = make_arch(config.model, classes, sides_of(config.train.image_size));
  if (arch.is_vit() && !config.model.head_bias && config.loss.kind == "sigmoid")
    arch.vit.head_bias = -std::log(static_cast<double>(arch.classes));
  if (arch.classes < static_cast<int64_t>(train->classes().size()))
    fail(Exit::usage, "model.classes: {} is less than the {} classes of the data", arch.classes,
         train->classes().size());
  Horizon horizon{.examples = train->size() * static_cast<uint64_t>(config.data.augment.repeat),
                  .batch = static_cast<uint64_t>(config.train.batch)};
  horizon.total_slots = total_slots(config.train.duration, horizon);
  const uint64_t total_steps = steps_of(horizon);
  if (total_steps == 0)
    fail(Exit::usage, "train.duration: {} is no step at all",
         duration_key_text(config.train.duration));
  const Schedule schedule = make_schedule(config, horizon, total_steps);

  std::optional<Fork> fork;
  if (!options.fork.empty()) fork = open_fork(options.fork, config);
  RunIdentity identity{
      train->fingerprint(), heldout ? heldout->fingerprint() : "", "",
      config.train.precision == "auto" ? auto_precision(options.device) : config.train.precision,
      resolve_micro_batch(config, arch, options.device)};
  if (options.init) identity.init_hash = hash128(MappedFile(weight_file_of(*options.init)).bytes());
  if (fork) join_trunk(*fork, schedule, total_steps, identity);
  Model model = make_model(arch);
  freeze(config.optim.freeze, model.params);
  if (options.device != at::kCPU && !config.optim.freeze.empty())
    not_supported("--device cuda with optim.freeze");
  Optimizer optimizer(model.params, model.weights, optimizer_settings(config.optim, arch));
  RunDirectory directory =
      open_run(options.out, loaded, identity, device_text(options.device), options.resume);
  Certificate certificate(train->size(), static_cast<uint32_t>(config.data.augment.repeat));
  return {.loaded = loaded,
          .config = config,
          .options = options,
          .train = train,
          .heldout = heldout,
          .fork = std::move(fork),
          .backbone = std::move(backbone),
          .directory = std::move(directory),
          .horizon = horizon,
          .total_steps = total_steps,
          .schedule = schedule,
          .model = std::move(model),
          .ema = {.average = {}, .decay = config.ema.decay},
          .optimizer = std::move(optimizer),
          .device_kind = device_kind(options.device),
          .progress = {.certificate = certificate, .damage = {}, .times = {}, .losses = {}},
          .metrics = {},
          .ledger = {}};
}

void start(Run& run) {
  set_log_file(run.directory.path / "log.txt");
  check_space(run);
  const Config& c = run.config;
  if (run.train->size() < static_cast<uint64_t>(c.train.batch))
    say("the training set has {} examples, fewer than a batch of {}", run.train->size(),
        c.train.batch);
  if (!run.heldout) say("data.heldout is not set: no held-out loss will be reported");
  if (!run.directory.checkpoint) {
    if (run.backbone) {
      init_weights(run.model, static_cast<uint64_t>(c.train.seed));
      load_backbone(run.model, *run.backbone);
    } else if (run.options.init)
      load_weights(run.model, read_safetensors(weight_file_of(*run.options.init)));
    else
      init_weights(run.model, static_cast<uint64_t>(c.train.seed));
  }
  run.backbone.reset();
  if (averages(run))
    for (const at::Tensor& w : run.model.weights) run.ema.average.push_back(w.detach().clone());
  if (run.directory.checkpoint)
    restore(run, *run.directory.checkpoint);
  else if (run.fork)
    restore(run, run.fork->checkpoint);
  run.metrics = Metrics(run.directory.path, run.progress.step, c.log.tensorboard);
  open_ledger(run);
  say("{}: {} parameters, {} examples, {} steps of {}, {} px, {}, {} threads; run {}",
      run.model.arch.name, run.model.arch.param_count(), run.train->size(), run.total_steps,
      c.train.batch, c.train.image_size, run.directory.identity.precision, run.options.threads,
      run.directory.id.substr(0, 8));
}

// Of a run that `why` ends.
void leave_result(const Run& run, const Error& why) {
  end_live();
  try {
    run.directory.lease->check();
    write_result(run.directory.path, result_of(run, status_of(why.code), nullptr, &why));
  } catch (const Error&) {  // what failed the run, a disk or another holder, fails its result too
    if (why.code == Exit::preempted) throw;
  }
}

}  // namespace

void train(LoadedConfig loaded, const TrainOptions& options) {
  catch_stop_signals();
  at::set_num_threads(options.threads);
  at::globalContext().setDeterministicAlgorithms(loaded.config.train.deterministic,
                                                 /*warn_only=*/true);
  // What a kernel writes it does not read before: memory filled ahead would cost a tenth of a step.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  Run run = open(loaded, options);
  if (run.directory.result) {
    const std::string status = run.directory.result->at("status").as_string();
    say("{}: this run has ended already: {}", options.out.string(), status);
    if (status == "diverged") throw Error(Exit::diverged, "");
    return;
  }
  try {
    start(run);
    loop(run);
    finish(run);
  } catch (const Error& e) {
    leave_result(run, e);
    if (e.code != Exit::preempted) throw;
    fail(Exit::preempted,
         "{}: stopped after step {} of {}; everything is saved, the same command goes on",
         options.out.string(), run.progress.step, run.total_steps);
  } catch (const std::exception& e) {  // memory, mostly
    leave_result(run, Error(Exit::system, e.what()));
    throw;
  }
}

}  // namespace nfscale
