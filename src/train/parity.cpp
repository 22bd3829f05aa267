#include "train/parity.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <map>

#include "base/json.h"
#include "base/safetensors.h"
#include "config/load.h"
#include "model/loss.h"
#include "model/nfnet.h"
#include "model/weights.h"
#include "train/optimizer.h"

namespace nfscale {
namespace {

// Results by the name of the stored tensor, in double.
using Results = std::map<std::string, std::vector<double>>;

std::vector<double> doubles(const at::Tensor& t) {
  const at::Tensor d = t.detach().to(at::kDouble).contiguous();
  return {d.const_data_ptr<double>(), d.const_data_ptr<double>() + d.numel()};
}

struct Case {
  const SafetensorsFile& file;
  Json optim, loss;
  Model model;
  at::Tensor images, labels, targets;

  Json meta(const std::string& key) const {
    return parse_json(file.meta(key), file.path.string() + ": " + key);
  }
  double smoothing() const { return loss.at("label_smoothing").as_double(); }
  bool sigmoid() const { return loss.at("kind").as_string() == "sigmoid"; }

  at::Tensor tensor(const std::string& name) const {
    std::vector<double> values = file.numbers(name);
    return at::from_blob(values.data(), file.find(name)->shape, at::kDouble)
        .to(model.weights[0].scalar_type())
        .clone();
  }

  at::Tensor mean_loss(const at::Tensor& logits) const {
    return (sigmoid() ? sigmoid_loss(logits, targets, smoothing())
                      : softmax_loss(logits, labels, smoothing()))
        .mean();
  }

  at::Tensor forward_pass(Filters& filters, const Masks* masks,
                          const Observer& observe = {}) const {
    return forward(model, filters, images, masks, observe);
  }
};

// The fill of digest cases: FNV-1a of the name, then SplitMix64 (golden files,
// "fnv1a64-splitmix64/1").
void fill(const std::string& name, const std::vector<int64_t>& shape, uint64_t seed,
          at::Tensor& out) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  const uint64_t key = h ^ seed;
  const int64_t n = out.numel();
  double scale = 2, shift = 0;
  if (name.ends_with("skipinit_gain"))
    scale = 0.25, shift = 0.5;
  else if (name.ends_with(".gain"))
    scale = 0.25, shift = 1;
  else if (name.ends_with(".bias"))
    scale = 0.0625;
  else if (name != "input/images") {
    const double fan_in = static_cast<double>(n) / static_cast<double>(shape[0]);
    scale = 1;
    while (scale * scale * fan_in > 3) scale /= 2;
  }
  at::Tensor values = out.scalar_type() == at::kFloat ? out : at::Tensor(out.to(at::kFloat));
  float* to = values.data_ptr<float>();
  for (int64_t i = 0; i < n; ++i) {
    uint64_t z = key + (static_cast<uint64_t>(i) + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    const double u = static_cast<double>(z >> 40) / 8388608 - 1;
    to[i] = static_cast<float>(shift + scale * u);
  }
  if (!values.is_same(out)) out.copy_(values);
}

Case open_case(const SafetensorsFile& file, at::ScalarType type, const std::string& numerics) {
  Case c{file, {}, {}, {}, {}, {}, {}};
  Config config;
  const Json table = c.meta("model");
  for (const auto& [key, value] : table.members()) {
    if (key == "name" && value.is_string() && value.as_string().starts_with("vit"))
      not_supported("a Vision Transformer's case");
    set_key(config, "model." + key, value, file.path.string());
  }
  config.model.numerics = numerics.empty() ? file.meta("numerics") : numerics;
  c.optim = c.meta("optim");
  c.loss = c.meta("loss");
  c.model = make_model(make_arch(config.model, c.meta("config").at("classes").as_int()), type);
  if (const TensorView* labels = file.find("input/labels")) {
    if (labels->dtype != Dtype::i64)
      fail(Exit::usage, "{}: input/labels: expected I64", file.path.string());
    c.labels = at::from_blob(const_cast<std::byte*>(labels->bytes.data()), labels->shape, at::kLong)
                   .clone();
  }
  const at::NoGradGuard no_grad;
  if (file.meta("case") == "digest") {
    const auto seed = static_cast<uint64_t>(std::stoull(file.meta("fill_seed")));
    std::vector<int64_t> shape;
    const Json sides = c.meta("fill_images");
    for (const Json& side : sides.items()) shape.push_back(side.as_int());
    c.images = at::zeros(shape, at::TensorOptions(type));
    fill("input/images", shape, seed, c.images);
    for (size_t i = 0; i < c.model.params.size(); ++i)
      fill(c.model.params[i].name, c.model.params[i].shape, seed, c.model.weights[i]);
  } else {
    c.images = c.tensor("input/images");
    if (file.find("input/targets")) c.targets = c.tensor("input/targets");
    load_weights(c.model, file, "param/");
  }
  return c;
}

Masks stored_masks(const Case& c) {
  Masks masks;
  for (const Block& b : c.model.arch.blocks)
    masks.drop_path.push_back(c.file.find("mask/" + b.name + ".drop_path")
                                  ? c.tensor("mask/" + b.name + ".drop_path")
                                  : at::Tensor());
  if (c.file.find("mask/head.drop")) masks.head = c.tensor("mask/head.drop");
  return masks;
}

// All gradients clipped unit by unit with the case's threshold, as tensors of their own.
std::vector<at::Tensor> clipped_grads(const Case& c, const Filters& filters,
                                      const std::string& rule) {
  std::vector<at::Tensor> grads = gradients(c.model.weights, filters);
  for (size_t i = 0; i < grads.size(); ++i) {
    grads[i] = grads[i].clone();
    adaptive_clip(c.model.weights[i].detach(), grads[i], c.optim.at("agc").as_double(),
                  c.optim.at("agc_eps").as_double(), rule);
  }
  return grads;
}

OptimizerSettings settings_of(const Case& c) {
  OptimizerSettings s;
  s.momentum = c.optim.at("momentum").as_double();
  s.weight_decay = s.head_weight_decay = c.optim.at("weight_decay").as_double();
  s.agc = c.optim.at("agc").as_double();
  s.agc_eps = c.optim.at("agc_eps").as_double();
  s.agc_rule = c.optim.at("agc_rule").as_string();
  for (const Json& name : c.optim.at("agc_exclude").items())
    s.agc_exclude.push_back(name.as_string());
  return s;
}

Results run_train(const Case& c) {
  Results r;
  Filters filters = make_filters(c.model, c.images.scalar_type(), true);
  const Masks masks = stored_masks(c);
  const auto& params = c.model.params;
  const auto keep = [&](const std::string& prefix, const std::vector<at::Tensor>& tensors) {
    for (size_t i = 0; i < params.size(); ++i) r[prefix + params[i].name] = doubles(tensors[i]);
  };
  {
    const at::NoGradGuard no_grad;
    r["out/eval_logits"] = doubles(c.forward_pass(filters, nullptr));
  }
  Optimizer optimizer(params, c.model.weights, settings_of(c));
  Ema ema{.average = {}, .decay = c.optim.at("ema_decay").as_double()};
  for (const at::Tensor& w : c.model.weights) ema.average.push_back(w.detach().clone());
  const Json::Array& rates = c.optim.at("lr").items();
  for (size_t t = 0; t < rates.size(); ++t) {
    begin_gradients(c.model.weights, filters);
    const Observer observe = [&](const std::string& name, const at::Tensor& value) {
      r["act/" + name] = doubles(value);
    };
    const at::Tensor logits = c.forward_pass(filters, &masks, t == 0 ? observe : Observer());
    const at::Tensor loss = c.mean_loss(logits);
    add_gradients(loss, filters);
    const std::string step = fmt::format("step{}/", t + 1);
    r[step + "loss"] = doubles(loss);
    if (t == 0) {
      r["out/logits"] = doubles(logits);
      r["out/loss"] = doubles(loss);
      keep("grad/", gradients(c.model.weights, filters));
      for (const char* rule : {"deepmind", "timm"})
        keep(fmt::format("agc/{}/", rule), clipped_grads(c, filters, rule));
    }
    optimizer.clip(c.model.weights, filters);
    optimizer.step(c.model.weights, filters, rates[t].as_double(), ema, t);
    keep(step + "param/", c.model.weights);
  }
  const std::string last = fmt::format("step{}/", rates.size());
  keep(last + "momentum/", optimizer.momentum);
  keep(last + "ema/", ema.average);
  return r;
}

std::vector<double> statistics(const at::Tensor& t) {
  const std::vector<double> values = doubles(t);
  double sum = 0, squares = 0, low = INFINITY, high = -INFINITY;
  for (const double v : values) {
    sum += v;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const auto n = static_cast<double>(values.size());
  for (const double v : values) squares += (v - sum / n) * (v - sum / n);
  return {sum / n, std::sqrt(squares / n), low, high};
}

Results run_digest(const Case& c) {
  Results r;
  double total = 0;
  for (const at::Tensor& w : c.model.weights)
    total += w.detach().to(at::kDouble).abs().sum().item<double>();
  const double stored = std::stod(c.file.meta("fill_abs_sum"));
  if (!(std::abs(total - stored) <= 1e-6 * stored))
    fail(Exit::defect, "{}: the filled parameters sum to {:.9g}, not {:.9g}", c.file.path.string(),
         total, stored);
  const bool grads = c.file.metadata.contains("grad_norm_names");
  const at::AutoGradMode mode(grads);
  Filters filters = make_filters(c.model, c.images.scalar_type(), grads);
  const at::Tensor logits =
      c.forward_pass(filters, nullptr, [&](const std::string& name, const at::Tensor& value) {
        if (c.file.find("digest/" + name)) r["digest/" + name] = statistics(value);
        if (c.file.find("act/" + name)) r["act/" + name] = doubles(value);
      });
  const at::Tensor loss = c.mean_loss(logits);
  r["out/logits"] = doubles(logits);
  r["out/loss"] = doubles(loss);
  if (!grads) return r;
  begin_gradients(c.model.weights, filters);
  add_gradients(loss, filters);
  const Json names = c.meta("grad_norm_names");
  const auto norms = [&](const std::string& name, const std::vector<at::Tensor>& tensors) {
    for (const Json& wanted : names.items())
      for (size_t i = 0; i < tensors.size(); ++i)
        if (c.model.params[i].name == wanted.as_string())
          r[name].push_back(tensors[i].norm().item<double>());
  };
  norms("digest/grad_norm", gradients(c.model.weights, filters));
  for (const char* rule : {"deepmind", "timm"})
    norms(fmt::format("digest/agc_norm_{}", rule), clipped_grads(c, filters, rule));
  return r;
}

std::string group_of(const std::string& name, bool digest) {
  const size_t slash = name.find('/');
  const std::string first = name.substr(0, slash), rest = name.substr(slash + 1);
  if (first.starts_with("step")) return "step_" + rest.substr(0, rest.find('/'));
  return digest && first == "digest" && rest.find("norm") != std::string::npos ? "digest_grad"
                                                                               : first;
}

double error_of(const std::vector<double>& a, const std::vector<double>& b, double floor,
                bool entry_by_entry) {
  double most = 0, difference = 0, scale = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    difference = std::max(difference, std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(b[i]));
    most = std::max(most, std::abs(a[i] - b[i]) / std::max(std::abs(b[i]), floor));
  }
  return entry_by_entry ? most : difference / std::max(scale, floor);
}

void compare(const Case& c, const Results& results, double most_tolerance, ParityResult& out) {
  const Json tolerance = c.meta("tolerance"), floors = c.meta("floor");
  double worst = -1;
  for (const TensorView& stored : c.file.tensors) {
    if (stored.name.starts_with("input/") || stored.name.starts_with("param/") ||
        stored.name.starts_with("mask/"))
      continue;
    const auto found = results.find(stored.name);
    if (found == results.end() || found->second.size() != static_cast<size_t>(stored.count()))
      fail(Exit::defect, "{}: nothing computed to compare with {}", c.file.path.string(),
           stored.name);
    const std::string group = group_of(stored.name, out.kind == "digest");
    const Json* floor = floors.find(group);
    const double allowed = std::min(tolerance.at(group).as_double(), most_tolerance);
    const double error = error_of(found->second, c.file.numbers(stored.name),
                                  floor ? floor->as_double() : 0, group == "digest_grad");
    ++out.compared;
    out.ok = out.ok && error <= allowed;
    if (error / allowed > worst) {
      worst = error / allowed;
      out.worst = {stored.name, error, allowed};
    }
  }
}

}  // namespace

ParityResult run_parity(const Path& path, bool float64, const std::string& numerics) {
  const SafetensorsFile file = read_safetensors(path);
  const auto format = file.metadata.find("format");
  if (format == file.metadata.end() || format->second != "nfscale-golden/1")
    fail(Exit::usage, "{}: format: expected nfscale-golden/1, found {}", path.string(),
         format == file.metadata.end() ? "none" : format->second);
  ParityResult out;
  out.name = file.meta("name");
  out.kind = file.meta("case");
  if (out.kind != "train" && out.kind != "digest")
    not_supported("parity of the case \"" + out.kind + "\"");
  const Case c = open_case(file, float64 ? at::kDouble : at::kFloat, numerics);
  out.numerics = c.model.arch.numerics;
  compare(c, out.kind == "train" ? run_train(c) : run_digest(c), float64 ? 1e-6 : INFINITY, out);
  return out;
}

}  // namespace nfscale
