#include "model/weights.h"

#include <ATen/ops/from_blob.h>

#include <set>

#include "base/text.h"

namespace nfscale {
namespace {

void copy_tensor(const TensorView& from, at::Tensor to) {
  if (from.dtype == Dtype::f32 && to.scalar_type() == at::kFloat) {
    std::memcpy(to.data_ptr<float>(), from.bytes.data(), from.bytes.size());
    return;
  }
  std::vector<double> values(static_cast<size_t>(from.count()));
  to_doubles(from, values);
  to.copy_(at::from_blob(values.data(), to.sizes(), at::kDouble));
}

std::vector<NamedTensor> named(const Model& model, const std::vector<at::Tensor>& tensors) {
  std::vector<NamedTensor> all;
  for (size_t i = 0; i < model.params.size(); ++i)
    all.push_back({model.params[i].name, tensors[i].detach()});
  return all;
}

}  // namespace

void load_named(const std::vector<NamedTensor>& tensors, const SafetensorsFile& file,
                const std::string& owner, const std::string& prefix) {
  std::vector<std::string> wrong;
  std::set<std::string> known;
  for (const auto& [name, tensor] : tensors) {
    known.insert(name);
    const TensorView* t = file.find(prefix + name);
    const std::vector<int64_t> shape = tensor.sizes().vec();
    if (!t)
      wrong.push_back(name + " is missing");
    else if (t->shape != shape)
      wrong.push_back(fmt::format("{} is {} where {} is needed", name, shape_text(t->shape),
                                  shape_text(shape)));
  }
  if (prefix.empty())
    for (const TensorView& t : file.tensors)
      if (!known.contains(t.name))
        wrong.push_back(printable(t.name) + " is not a parameter of " + owner);
  if (!wrong.empty()) fail(Exit::usage, "{}: {}", file.path.string(), join(wrong, "; "));
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : tensors) copy_tensor(*file.find(prefix + name), tensor);
}

std::vector<TensorView> tensor_views(const std::vector<NamedTensor>& tensors) {
  std::vector<TensorView> views;
  for (const auto& [name, t] : tensors) {
    NFSCALE_CHECK(t.is_contiguous() &&
                  (t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16));
    views.push_back({name, t.scalar_type() == at::kFloat ? Dtype::f32 : Dtype::bf16,
                     t.sizes().vec(),
                     std::as_bytes(std::span(static_cast<const char*>(t.const_data_ptr()),
                                             static_cast<size_t>(t.nbytes())))});
  }
  return views;
}

void load_weights(Model& model, const SafetensorsFile& file, const std::string& prefix) {
  load_named(named(model, model.weights), file, model.arch.name, prefix);
}

std::vector<TensorView> weight_views(const Model& model, const std::vector<at::Tensor>& tensors) {
  return tensor_views(named(model, tensors));
}

}  // namespace nfscale
