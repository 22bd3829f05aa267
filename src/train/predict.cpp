#include "train/predict.h"

#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>

#include <set>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "data/loader.h"
#include "train/evaluate.h"

namespace nfscale {

std::vector<Path> picture_files(const std::vector<std::string>& paths) {
  const std::set<std::string> endings = {".jpg", ".jpeg", ".png", ".webp"};
  std::vector<Path> files;
  for (const std::string& path : paths) {
    if (!is_there(path)) fail(Exit::usage, "{}: no such file or folder", path);
    if (!std::filesystem::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    std::vector<Path> inside;
    std::error_code error, none;
    const auto options = std::filesystem::directory_options::skip_permission_denied;
    for (std::filesystem::recursive_directory_iterator i(path, options, error), end;
         !error && i != end; i.increment(error)) {
      std::string ending = i->path().extension().string();
      std::transform(ending.begin(), ending.end(), ending.begin(),
                     [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
      if (endings.contains(ending) && i->is_regular_file(none)) inside.push_back(i->path());
    }
    if (error) fail(Exit::usage, "{}: cannot be read: {}", path, error.message());
    if (inside.empty()) fail(Exit::usage, "{}: no picture (.jpg, .jpeg, .png, .webp) in it", path);
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

namespace {

// Pictures without labels.
class PictureFiles : public Source {
 public:
  explicit PictureFiles(const std::vector<Path>& files) : files_(files) {}
  uint64_t size() const override { return files_.size(); }
  Example read(uint64_t i) const override {
    return {.key = key(i), .bytes = read_file(files_[i]), .picture = {}, .file = key(i)};
  }
  std::string key(uint64_t i) const override { return files_[i].string(); }
  int64_t label(uint64_t) const override { return 0; }
  std::string fingerprint() const override { return ""; }

 private:
  const std::vector<Path>& files_;
};

LoaderOptions loader_options(const TrainedModel& trained, const PredictOptions& o, size_t files) {
  LoaderOptions options;
  options.rows = std::min(o.batch, static_cast<int64_t>(files));
  options.size = o.size;
  options.total_slots = files;
  options.training = false;
  options.threads = o.threads;
  options.data = trained.data;
  return options;
}

}  // namespace

std::vector<std::vector<PictureResult::Top>> top_classes(const TrainedModel& trained,
                                                         const at::Tensor& logits, int64_t top) {
  const at::Tensor p = trained.loss == "sigmoid" ? at::sigmoid(logits) : at::softmax(logits, 1);
  const auto [values, indices] = at::topk(p.cpu(), top, 1);
  std::vector<std::vector<PictureResult::Top>> rows(static_cast<size_t>(p.size(0)));
  for (int64_t i = 0; i < p.size(0); ++i)
    for (int64_t k = 0; k < top; ++k) {
      const auto index = indices[i][k].item<int64_t>();
      const auto at = static_cast<size_t>(index);
      rows[static_cast<size_t>(i)].push_back(
          {index, at < trained.class_names.size() ? trained.class_names[at] : std::to_string(index),
           values[i][k].item<double>()});
    }
  return rows;
}

void predict(const TrainedModel& trained, const std::vector<Path>& files,
             const PredictOptions& options, const std::function<void(const PictureResult&)>& each) {
  const at::NoGradGuard no_grad;
  Filters filters = make_filters(trained.model, compute_type(trained.precision), false);
  Loader loader(std::make_shared<PictureFiles>(files),
                loader_options(trained, options, files.size()), 0);
  const at::Device device = trained.model.weights[0].device();
  for (;;) {
    const Batch& batch = loader.next();
    if (batch.count == 0) return;
    if (stop_requested()) throw Error(Exit::preempted, "stopped; what is above is complete");
    const at::Tensor logits =
        forward(trained.model, filters, batch_images(batch, 0, batch.count).to(device)).cpu();
    auto guesses = top_classes(trained, logits, options.top);
    for (int64_t i = 0; i < batch.count; ++i) {
      const uint64_t slot = batch.begin + static_cast<uint64_t>(i);
      PictureResult result = {
          .file = files[slot], .top = std::move(guesses[static_cast<size_t>(i)]), .error = {}};
      for (const Broken& b : batch.broken)
        if (b.slot == slot) result.error = b.reason;
      each(result);
    }
  }
}

}  // namespace nfscale
