// Vision Transformers: steps of AdamW and Adafactor, and digests of whole models.
#include <ATen/ops/log_softmax.h>

#include "model/loss.h"
#include "train/optimizer.h"
#include "train/parity_case.h"

namespace nfscale {
namespace {

OptimizerSettings settings_of(const Case& c) {
  const auto number = [&](const char* key) { return c.optim.at(key).as_double(); };
  OptimizerSettings s;
  s.name = c.optim.at("name").as_string();
  s.weight_decay = number("weight_decay");
  s.head_weight_decay = number("head_weight_decay");
  s.clip_norm = number("clip_norm");
  s.agc = 0;
  s.beta1 = s.adafactor.beta1 = number("beta1");
  if (s.name == "adamw") {
    s.beta2 = number("beta2");
    s.eps = number("eps");
    return s;
  }
  s.adafactor.beta2_cap = number("beta2_cap");
  s.adafactor.decay_exponent = number("decay_exponent");
  s.adafactor.eps = number("eps");
  s.adafactor.clip_threshold = number("clip_threshold");
  s.adafactor.min_dim_factored = c.optim.at("min_dim_factored").as_int();
  s.adafactor.bf16_momentum = c.optim.at("momentum_dtype").as_string() == "bf16";
  if (c.optim.at("view").as_string() == "heads") s.adafactor.heads = c.model.arch.vit.heads;
  return s;
}

// The mean of the other loss than the case's, on the same logits.
at::Tensor other_loss(const Case& c, const at::Tensor& logits) {
  if (!c.sigmoid()) return sigmoid_loss(logits, c.targets, c.smoothing()).mean();
  const at::Tensor count = c.targets.sum(1, /*keepdim=*/true);
  const at::Tensor y = c.targets / count.clamp_min(1) * (1 - c.smoothing()) +
                       c.smoothing() / static_cast<double>(logits.size(1));
  return -(y * at::log_softmax(logits, 1)).sum(1).mean();
}

// The names of the golden files for what Optimizer::state() calls it.
std::string state_name(const std::string& name) {
  for (const auto& [own, golden] : {std::pair("second/", "full/"), std::pair("column/", "col/")})
    if (name.starts_with(own)) return golden + name.substr(std::string(own).size());
  const bool has_kind =
      name.starts_with("momentum/") || name.starts_with("full/") || name.starts_with("row/");
  return has_kind ? name : "momentum/" + name;
}

Results run_train(const Case& c) {
  Results r;
  Filters filters = make_filters(c.model, c.images.scalar_type(), true);
  const Masks masks = c.masks();
  const auto& params = c.model.params;
  Optimizer optimizer(params, c.model.weights, settings_of(c));
  const Json::Array& rates = c.optim.at("lr").items();
  for (size_t t = 0; t < rates.size(); ++t) {
    const at::Tensor logits = c.pass(filters, masks, t, r);
    const std::string step = fmt::format("step{}/", t + 1);
    const StepStats stats = optimizer.clip(c.model.weights, filters);
    if (t == 0) {
      r[c.sigmoid() ? "out/loss_softmax" : "out/loss_sigmoid"] = doubles(other_loss(c, logits));
      r["out/grad_norm"] = {stats.grad_norm};
      for (size_t i = 0; i < params.size(); ++i)
        r["grad/" + params[i].name] = doubles(c.model.weights[i].grad());
    }
    optimizer.step(c.model.weights, filters, rates[t].as_double(), {}, t);
    for (size_t i = 0; i < params.size(); ++i)
      r[step + "param/" + params[i].name] = doubles(c.model.weights[i]);
    for (const auto& [name, tensor] : optimizer.state())
      r[step + state_name(name)] = doubles(tensor);
  }
  return r;
}

Results run_digest(const Case& c) {
  Results r;
  Filters filters = make_filters(c.model, c.images.scalar_type(), true);
  const at::Tensor logits = c.forward_pass(filters, nullptr, c.digest(r));
  const at::Tensor loss = c.mean_loss(logits);
  r["out/logits"] = doubles(logits);
  r["out/loss"] = doubles(loss);
  begin_gradients(c.model.weights, filters);
  add_gradients(loss, filters);
  const Json names = c.meta("grad_norm_names");
  for (const Json& name : names.items())
    for (size_t i = 0; i < c.model.params.size(); ++i)
      if (c.model.params[i].name == name.as_string())
        r["digest_grad/norm"].push_back(c.model.weights[i].grad().norm().item<double>());
  return r;
}

}  // namespace

Results run_vit_case(const Case& c) {
  return c.file.meta("case") == "train" ? run_train(c) : run_digest(c);
}

}  // namespace nfscale
