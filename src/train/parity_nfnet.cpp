// NFNets: three steps of SGD with adaptive clipping, and digests of whole models.
#include "model/filters.h"
#include "train/optimizer.h"
#include "train/parity_case.h"

namespace nfscale {
namespace {

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
  const Masks masks = c.masks();
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
    c.pass(filters, masks, t, r);
    const std::string step = fmt::format("step{}/", t + 1);
    if (t == 0) {
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

Results run_digest(const Case& c) {
  Results r;
  const bool grads = c.file.metadata.contains("grad_norm_names");
  const at::AutoGradMode mode(grads);
  Filters filters = make_filters(c.model, c.images.scalar_type(), grads);
  const at::Tensor logits = c.forward_pass(filters, nullptr, c.digest(r));
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

}  // namespace

Results run_nfnet_case(const Case& c) {
  return c.file.meta("case") == "train" ? run_train(c) : run_digest(c);
}

}  // namespace nfscale
