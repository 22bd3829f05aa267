#include "model/weights.h"

#include <set>

#include "base/text.h"

namespace nfscale {
namespace {

void copy_tensor(const TensorView& from, at::Tensor& to) {
  if (from.dtype == Dtype::f32 && to.scalar_type() == at::kFloat) {
    std::memcpy(to.data_ptr<float>(), from.bytes.data(), from.bytes.size());
    return;
  }
  std::vector<double> values(static_cast<size_t>(from.count()));
  to_doubles(from, values);
  if (to.scalar_type() == at::kDouble)
    std::copy(values.begin(), values.end(), to.data_ptr<double>());
  else
    std::transform(values.begin(), values.end(), to.data_ptr<float>(),
                   [](double v) { return static_cast<float>(v); });
}

}  // namespace

void load_weights(Model& model, const SafetensorsFile& file, const std::string& prefix) {
  std::vector<std::string> wrong;
  std::set<std::string> known;
  for (const Param& p : model.params) {
    known.insert(p.name);
    const TensorView* t = file.find(prefix + p.name);
    if (!t)
      wrong.push_back(p.name + " is missing");
    else if (t->shape != p.shape)
      wrong.push_back(fmt::format("{} is {} where {} is needed", p.name, shape_text(t->shape),
                                  shape_text(p.shape)));
  }
  if (prefix.empty())
    for (const TensorView& t : file.tensors)
      if (!known.contains(t.name))
        wrong.push_back(printable(t.name) + " is not a parameter of " + model.arch.name);
  if (!wrong.empty()) fail(Exit::usage, "{}: {}", file.path.string(), join(wrong, "; "));
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < model.params.size(); ++i)
    copy_tensor(*file.find(prefix + model.params[i].name), model.weights[i]);
}

std::vector<TensorView> weight_views(const Model& model, const std::vector<at::Tensor>& tensors) {
  std::vector<TensorView> views;
  for (size_t i = 0; i < model.params.size(); ++i) {
    const at::Tensor& t = tensors[i];
    NFSCALE_CHECK(t.is_contiguous() && t.scalar_type() == at::kFloat);
    views.push_back(
        {model.params[i].name, Dtype::f32, model.params[i].shape,
         std::as_bytes(std::span(t.const_data_ptr<float>(), static_cast<size_t>(t.numel())))});
  }
  return views;
}

}  // namespace nfscale
