#include "embed/nfscale.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>

#include "base/files.h"
#include "base/text.h"
#include "data/augment.h"
#include "data/decode.h"
#include "train/evaluate.h"
#include "train/predict.h"
#include "train/weights_file.h"

namespace nfscale {

namespace {

// Runs `work`; what it throws is a std::runtime_error of one line.
auto in_one_line(const auto& work) {
  try {
    return work();
  } catch (const std::runtime_error&) {
    throw;
  } catch (const std::exception& e) {  // of libtorch, with a stack trace behind
    const std::string text = e.what();
    throw std::runtime_error(text.substr(0, text.find('\n')));
  }
}

}  // namespace

struct Classifier::Parts {
  TrainedModel trained;
  Filters filters;  // standardised once
  std::vector<float> pixels;
};

Classifier::Classifier(const std::string& checkpoint, int threads) {
  if (threads > 0) at::set_num_threads(threads);
  parts_ = std::make_unique<Parts>();
  in_one_line([&] { load(checkpoint); });
}

void Classifier::load(const std::string& checkpoint) {
  const at::NoGradGuard no_grad;
  TrainedModel& trained = parts_->trained = load_trained(checkpoint);
  require_finite(trained);
  parts_->filters = make_filters(trained.model, compute_type(trained.precision), false);
  parts_->pixels.resize(static_cast<size_t>(3 * image_size() * image_size()));
}

Classifier::~Classifier() = default;
Classifier::Classifier(Classifier&&) noexcept = default;
Classifier& Classifier::operator=(Classifier&&) noexcept = default;

std::vector<Guess> Classifier::classify(std::string_view encoded, size_t top) {
  return in_one_line([&] { return guesses_of(encoded, top); });
}

std::vector<Guess> Classifier::guesses_of(std::string_view encoded, size_t top) {
  const at::NoGradGuard no_grad;
  const TrainedModel& trained = parts_->trained;
  const int64_t size = image_size();
  const Decoded decoded = decode(encoded, DecodeOptions(trained.data));
  if (!decoded.broken.empty()) fail(Exit::usage, "the picture is broken: {}", decoded.broken);
  Normalisation(trained.data)
      .apply(evaluation_crop(decoded.picture, trained.data.eval_crop, size), parts_->pixels.data());
  const at::Tensor image =
      at::from_blob(parts_->pixels.data(), {1, size, size, 3}, at::kFloat).permute({0, 3, 1, 2});
  const auto most = static_cast<int64_t>(
      std::min<uint64_t>(top, static_cast<uint64_t>(trained.model.arch.classes)));
  const auto rows = top_classes(trained, forward(trained.model, parts_->filters, image), most);
  std::vector<Guess> guesses;
  for (const PictureResult::Top& t : rows[0]) guesses.push_back({t.name, t.index, t.probability});
  return guesses;
}

std::vector<Guess> Classifier::classify_file(const std::string& path, size_t top) {
  try {
    return classify(read_file(path), top);
  } catch (const Error& e) {
    const std::string text = e.what();
    fail(e.code, "{}", text.find(path) == std::string::npos ? path + ": " + text : text);
  }
}

const std::vector<std::string>& Classifier::classes() const {
  return parts_->trained.class_names;
}

int64_t Classifier::image_size() const {
  return parts_->trained.eval_size;
}

}  // namespace nfscale
