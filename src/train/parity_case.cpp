#include "train/parity_case.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "base/error.h"
#include "config/load.h"
#include "model/loss.h"
#include "model/weights.h"

namespace nfscale {
namespace {

// The fill of digest cases: FNV-1a of the name, then SplitMix64 (golden files,
// "fnv1a64-splitmix64/1" and "fnv1a64-splitmix64/vit-1").
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
  else if (name == "pos_embed" || name == "cls_token" || name == "attn_pool.latent")
    scale = 0.5;
  else if (shape.size() == 1)
    scale = 0.25, shift = 1;
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

void check_fill(const Case& c) {
  double total = 0;
  for (const at::Tensor& w : c.model.weights)
    total += w.detach().to(at::kDouble).abs().sum().item<double>();
  const double stored = std::stod(c.file.meta("fill_abs_sum"));
  if (!(std::abs(total - stored) <= 1e-6 * stored))
    fail(Exit::defect, "{}: the filled parameters sum to {:.9g}, not {:.9g}", c.file.path.string(),
         total, stored);
}

}  // namespace

std::vector<double> doubles(const at::Tensor& t) {
  const at::Tensor d = t.detach().to(at::kDouble).contiguous();
  return {d.const_data_ptr<double>(), d.const_data_ptr<double>() + d.numel()};
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

Json Case::meta(const std::string& key) const {
  return parse_json(file.meta(key), file.path.string() + ": " + key);
}

at::Tensor Case::tensor(const std::string& name) const {
  std::vector<double> values = file.numbers(name);
  return at::from_blob(values.data(), file.find(name)->shape, at::kDouble)
      .to(model.weights[0].scalar_type())
      .clone();
}

at::Tensor Case::mean_loss(const at::Tensor& logits) const {
  return (sigmoid() ? sigmoid_loss(logits, targets, smoothing())
                    : softmax_loss(logits, labels, smoothing()))
      .mean();
}

at::Tensor Case::forward_pass(Filters& filters, const Masks* masks, const Observer& observe) const {
  return forward(model, filters, images, masks, observe);
}

Masks Case::masks() const {
  Masks masks;
  const auto stored = [&](const std::string& name) {
    masks.drop_path.push_back(file.find(name) ? tensor(name) : at::Tensor());
  };
  for (const Block& b : model.arch.blocks) stored("mask/" + b.name + ".drop_path");
  if (model.arch.is_vit())
    for (int64_t i = 0; i < model.arch.vit.depth; ++i)
      for (const char* branch : {"1", "2"})
        stored(fmt::format("mask/blocks.{}.drop_path{}", i, branch));
  if (file.find("mask/head.drop")) masks.head = tensor("mask/head.drop");
  return masks;
}

at::Tensor Case::pass(Filters& filters, const Masks& masks, size_t t, Results& r) const {
  begin_gradients(model.weights, filters);
  const Observer observe = [&](const std::string& name, const at::Tensor& value) {
    r["act/" + name] = doubles(value);
  };
  const at::Tensor logits = forward_pass(filters, &masks, t == 0 ? observe : Observer());
  const at::Tensor loss_now = mean_loss(logits);
  add_gradients(loss_now, filters);
  r[fmt::format("step{}/loss", t + 1)] = doubles(loss_now);
  if (t == 0) {
    r["out/logits"] = doubles(logits);
    r["out/loss"] = doubles(loss_now);
  }
  return logits;
}

Observer Case::digest(Results& results) const {
  return [this, &results](const std::string& name, const at::Tensor& value) {
    if (file.find("digest/" + name)) results["digest/" + name] = statistics(value);
    if (file.find("act/" + name)) results["act/" + name] = doubles(value);
  };
}

Case open_case(const SafetensorsFile& file, at::ScalarType type, const std::string& numerics) {
  Case c{file, {}, {}, {}, {}, {}, {}};
  Config config;
  const Json table = c.meta("model");
  for (const auto& [key, value] : table.members())
    set_key(config, "model." + key, value, file.path.string());
  config.model.numerics = numerics.empty() ? file.meta("numerics") : numerics;
  if (file.metadata.contains("optim")) c.optim = c.meta("optim");
  c.loss = c.meta("loss");
  Sides size_of_images{};
  if (file.metadata.contains("size")) {
    const Json size = c.meta("size");
    size_of_images = {size.items().at(0).as_int(), size.items().at(1).as_int()};
  }
  c.model = make_model(
      make_arch(config.model, c.meta("config").at("classes").as_int(), size_of_images), type);
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
    check_fill(c);
  } else {
    c.images = c.tensor("input/images");
    if (file.find("input/targets")) c.targets = c.tensor("input/targets");
    load_weights(c.model, file, "param/");
  }
  if (!c.targets.defined())
    c.targets = at::zeros({c.labels.size(0), c.model.arch.classes}, at::TensorOptions(type))
                    .scatter_(1, c.labels.unsqueeze(1), 1);
  return c;
}

}  // namespace nfscale
