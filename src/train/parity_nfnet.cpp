// NFNets: three steps of SGD with adaptive clipping, and digests of whole models.
#include "model/loss.h"
#include "train/optimizer.h"
#include "train/parity_case.h"
#include "train/sam.h"

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

// Rows of the case, their part of the masks, and the loss of one replica after the other.
struct SamCase {
  const Case& c;
  const Masks masks = c.masks();
  double replicas = c.meta("sam").at("replicas").as_double();

  Masks rows_of_masks(int64_t begin, int64_t end) const {
    const auto part = [&](const at::Tensor& mask) {
      return mask.defined() ? mask.slice(0, begin, end) : mask;
    };
    Masks some;
    for (const at::Tensor& mask : masks.drop_path) some.drop_path.push_back(part(mask));
    some.head = part(masks.head);
    return some;
  }
  at::Tensor loss(Filters& filters, int64_t begin, int64_t end) const {
    const Masks some = rows_of_masks(begin, end);
    const at::Tensor logits =
        forward(c.model, filters, c.images.slice(0, begin, end).contiguous(), &some);
    return softmax_loss(logits, c.labels.slice(0, begin, end), c.smoothing()).mean();
  }
};

Results run_sam(const Case& c) {
  Results r;
  const SamCase sam_case = {c};
  const Json meta = c.meta("sam");
  std::vector<AscentGroup> groups;
  for (const Json& rows : meta.at("rows").items())
    groups.push_back(
        {rows.items().at(0).as_int(), rows.items().at(1).as_int(), rows.items().at(2).as_int()});
  Sam sam({.rho = meta.at("rho").as_double(), .sync = meta.at("sync").as_bool()});
  Filters filters = make_filters(c.model, c.images.scalar_type(), true);
  const auto keep = [&](const std::string& prefix, const std::vector<at::Tensor>& tensors) {
    for (size_t i = 0; i < c.model.params.size(); ++i)
      r[prefix + c.model.params[i].name] = doubles(tensors[i]);
  };
  Optimizer optimizer(c.model.params, c.model.weights, settings_of(c));
  const Json::Array& rates = c.optim.at("lr").items();
  for (size_t t = 0; t < rates.size(); ++t) {
    const std::string step = fmt::format("step{}/", t + 1);
    const auto pass = [&](int64_t begin, int64_t end, bool ascent, double share, bool last) {
      const at::Tensor loss = sam_case.loss(filters, begin, end);
      r[step + (ascent ? "ascent_loss" : "loss")].push_back(loss.item<double>());
      add_gradients(loss * (ascent ? share : 1 / sam_case.replicas), filters, last);
    };
    sam.gradients_of_step(c.model.weights, filters, groups, pass, [&](size_t group, double norm) {
      r[step + "ascent_norm"].push_back(norm);
      if (t == 0) keep(fmt::format("sam/noised/{}/", group), c.model.weights);
    });
    // Of the one ascent that all replicas share, once for each of them.
    while (r[step + "ascent_norm"].size() < groups.size())
      r[step + "ascent_norm"].push_back(r[step + "ascent_norm"][0]);
    if (t == 0) {
      keep("grad/", gradients(c.model.weights, filters));
      const std::string rule = c.optim.at("agc_rule").as_string();
      keep(fmt::format("agc/{}/", rule), clipped_grads(c, filters, rule));
    }
    optimizer.clip(c.model.weights, filters);
    optimizer.step(c.model.weights, filters, rates[t].as_double(), {}, t);
    keep(step + "param/", c.model.weights);
  }
  keep(fmt::format("step{}/momentum/", rates.size()), optimizer.momentum);
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
  const std::string kind = c.file.meta("case");
  return kind == "train" ? run_train(c) : kind == "sam" ? run_sam(c) : run_digest(c);
}

}  // namespace nfscale
