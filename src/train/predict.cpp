#include "train/predict.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>

#include <set>

#include "base/files.h"
#include "base/text.h"
#include "data/loader.h"
#include "train/evaluate.h"

namespace nfscale {

std::vector<Path> picture_files(const std::vector<std::string>& paths) {
  const std::set<std::string> endings = {".jpg", ".jpeg", ".png", ".webp"};
  std::vector<Path> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::exists(path)) fail(Exit::usage, "{}: no such file or folder", path);
    if (!std::filesystem::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    std::vector<Path> inside;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      std::string ending = entry.path().extension().string();
      std::transform(ending.begin(), ending.end(), ending.begin(),
                     [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
      if (entry.is_regular_file() && endings.contains(ending)) inside.push_back(entry.path());
    }
    if (inside.empty()) fail(Exit::usage, "{}: no picture (.jpg, .jpeg, .png, .webp) in it", path);
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

PictureResult predict_picture(const TrainedModel& trained, const Path& file, int64_t size,
                              int64_t top) {
  const at::NoGradGuard no_grad;
  PictureResult result;
  EvalPicture picture = eval_picture(read_file(file), trained.data, size);
  if (!picture.broken.empty()) {
    result.error = picture.broken;
    return result;
  }
  const at::Tensor image = at::from_blob(picture.pixels.data(), {1, size, size, 3}, at::kFloat)
                               .permute({0, 3, 1, 2})
                               .to(trained.model.weights[0].device());
  Filters filters = make_filters(trained.model, compute_type(trained.precision), false);
  const at::Tensor logits = forward(trained.model, filters, image).cpu();
  const at::Tensor p = trained.loss == "sigmoid" ? at::sigmoid(logits) : at::softmax(logits, 1);
  const auto [values, indices] = at::topk(p, top, 1);
  for (int64_t i = 0; i < top; ++i) {
    const int64_t index = indices[0][i].item<int64_t>();
    const auto at = static_cast<size_t>(index);
    result.top.push_back(
        {index, at < trained.class_names.size() ? trained.class_names[at] : std::to_string(index),
         values[0][i].item<double>()});
  }
  return result;
}

}  // namespace nfscale
