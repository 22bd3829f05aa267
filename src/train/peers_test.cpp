// Beside other programs, out of the environment that ./dev peers makes.
#include <ATen/ops/from_blob.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "base/files.h"
#include "base/log.h"
#include "base/random.h"
#include "config/load.h"
#include "model/init.h"
#include "model/loss.h"
#include "model/onnx.h"
#include "model/weights.h"
#include "train/optimizer.h"
#include "train/train.h"
#include "train/weights_file.h"

namespace nfscale {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatches = 12, kRows = 32, kSide = 32, kClasses = 10;

TensorView view(const std::string& name, Dtype type, std::vector<int64_t> shape,
                const std::vector<auto>& numbers) {
  return {name, type, std::move(shape), std::as_bytes(std::span(numbers))};
}

Model timm_n0() {
  Config config;
  set_key(config, "model.name", "nfnet_n0", "test");
  set_key(config, "model.numerics", "timm", "test");
  resolve(config);
  Model model = make_model(make_arch(config.model, kClasses));
  init_weights(model, 3);
  for (size_t i = 0; i < model.params.size(); ++i)
    if (model.params[i].name.ends_with("skipinit_gain")) model.weights[i].detach().fill_(0.3);
  return model;
}

// The gradients of the mean loss of a batch.
std::vector<at::Tensor> gradients_of(const Model& model, Filters& filters, const at::Tensor& images,
                                     const at::Tensor& labels) {
  begin_gradients(model.weights, filters);
  add_gradients(softmax_loss(forward(model, filters, images), labels, 0).mean(), filters);
  return gradients(model.weights, filters);
}

struct Distance {
  double ours = 0, theirs = 0, norm = 0;  // squares
  double fourth = 0;                      // powers of ours
};

// Distances from the gradients in double precision.
TEST(Peers, Bf16GradientsAreNoLessExactThanThoseOfTimmUnderAutocast) {
  const fs::path root(NFSCALE_SOURCE_DIR), python = root / ".peers/bin/python";
  if (!fs::exists(python)) GTEST_SKIP() << "no .peers: ./dev peers makes it";
  const Model model = timm_n0();
  Filters own = make_filters(model, at::kBFloat16, true);
  if (own.of_layer.empty()) GTEST_SKIP() << "no kernels on this machine";

  std::vector<float> pixels;
  for (uint64_t i = 0; i < static_cast<uint64_t>(kBatches * kRows * 3 * kSide * kSide); ++i)
    pixels.push_back(2 * uniform(words(7, Op::generator, i)[0]) - 1);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < kBatches * kRows; ++i) labels.push_back(i % kClasses);
  std::vector<TensorView> tensors = {
      view("images", Dtype::f32, {kBatches, kRows, 3, kSide, kSide}, pixels),
      view("labels", Dtype::i64, {kBatches, kRows}, labels)};
  for (TensorView& w : weight_views(model, model.weights)) {
    w.name = "param/" + w.name;
    tensors.push_back(w);
  }
  const fs::path folder =
      fs::path(testing::TempDir()) / fmt::format("nfscale-peers-{}", ::getpid());
  fs::create_directories(folder);
  write_safetensors(folder / "in.safetensors", {}, tensors);
  const std::string command = fmt::format(
      "'{}' '{}' '{}' '{}'", python.string(), (root / "tests/peers/autocast_gradients.py").string(),
      (folder / "in.safetensors").string(), (folder / "out.safetensors").string());
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  const SafetensorsFile theirs = read_safetensors(folder / "out.safetensors");
  fs::remove_all(folder);

  Model exact = model;
  for (at::Tensor& w : exact.weights) w = w.detach().to(at::kDouble).requires_grad_();
  Filters none;
  none.compute = at::kDouble;
  std::map<std::string, Distance> by_kind;
  for (int64_t b = 0; b < kBatches; ++b) {
    const at::Tensor images =
        at::from_blob(pixels.data() + b * kRows * 3 * kSide * kSide, {kRows, 3, kSide, kSide});
    const at::Tensor targets = at::from_blob(labels.data() + b * kRows, {kRows}, at::kLong);
    const std::vector<at::Tensor> ours = gradients_of(model, own, images, targets),
                                  truth =
                                      gradients_of(exact, none, images.to(at::kDouble), targets);
    for (size_t i = 0; i < truth.size(); ++i) {
      const std::string& name = model.params[i].name;
      Distance& d = by_kind[name.substr(name.rfind('.') + 1) +
                            (name.find("attn") < name.size() ? " of squeeze-excite" : "")];
      std::vector<double> all = theirs.numbers(name);
      const at::Tensor other =
          at::from_blob(all.data() + b * truth[i].numel(), truth[i].sizes(), at::kDouble);
      const at::Tensor squares = (ours[i].to(at::kDouble) - truth[i]).square();
      d.ours += squares.sum().item<double>();
      d.fourth += squares.square().sum().item<double>();
      d.theirs += (other - truth[i]).square().sum().item<double>();
      d.norm += truth[i].square().sum().item<double>();
    }
  }
  for (const auto& [kind, d] : by_kind) {
    const double here = std::sqrt(d.ours / d.norm), there = std::sqrt(d.theirs / d.norm);
    fmt::print("{:24} {:.4f} here, {:.4f} by timm under autocast\n", kind, here, there);
    // As in step_test: 2 / sqrt(n) for n equal errors that would make up the distance.
    EXPECT_LE(here, (1.02 + 2 * std::sqrt(d.fourth) / d.ours) * there) << kind;
  }
}

// The largest distance between our logits of weights.safetensors in the folder and timm's, relative
// to the largest logit; timm makes the file where it is not there.
double logit_distance(const std::string& name, int64_t size, const fs::path& folder) {
  const fs::path root(NFSCALE_SOURCE_DIR);
  const std::string command =
      fmt::format("'{}' '{}' {} {} '{}'", (root / ".peers/bin/python").string(),
                  (root / "tests/peers/logits.py").string(), name, size, folder.string());
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  const SafetensorsFile file = read_safetensors(folder / "logits.safetensors");
  std::vector<double> images = file.numbers("images"), theirs = file.numbers("logits");
  const TrainedModel trained = load_trained(folder / "weights.safetensors");
  EXPECT_TRUE(trained.foreign || trained.model.arch.numerics == "timm");
  Filters filters;
  const at::NoGradGuard no_grad;
  const at::Tensor ours =
      forward(trained.model, filters,
              at::from_blob(images.data(), {2, 3, size, size}, at::kDouble).to(at::kFloat));
  const at::Tensor other = at::from_blob(theirs.data(), ours.sizes(), at::kDouble);
  return ((ours - other).abs().max() / other.abs().max()).item<double>();
}

TEST(Peers, FilesOfTimmAndOursGiveTheSameLogitsInBoth) {
  if (!fs::exists(fs::path(NFSCALE_SOURCE_DIR) / ".peers/bin/python"))
    GTEST_SKIP() << "no .peers: ./dev peers makes it";
  for (const auto& [timm, own, size] :
       {std::tuple("vit_tiny_patch16_224", "vit_ti16", 224), {"dm_nfnet_f0", "nfnet_f0", 64}}) {
    const fs::path folder =
        fs::path(testing::TempDir()) / fmt::format("nfscale-logits-{}", ::getpid());
    fs::create_directories(folder);
    EXPECT_LT(logit_distance(timm, size, folder), 1e-5) << timm;
    // And a file of ours, with other weights than timm makes.
    ModelConfig config;
    config.name = own;
    config.numerics = "timm";
    if (config.name.starts_with("vit")) {
      config.pool = "tok";
      config.class_position = true;
    }
    Model model = make_model(make_arch(config, 1000));
    init_weights(model, 5);
    for (size_t i = 0; i < model.params.size(); ++i)
      if (model.params[i].shape.empty()) model.weights[i].detach().fill_(0.3);
    write_safetensors(folder / "weights.safetensors", {}, weight_views(model, model.weights));
    EXPECT_LT(logit_distance(timm, size, folder), 1e-5) << own;
    fs::remove_all(folder);
  }
}

// From timm's file through fine-tuning back into timm, with other classes.
TEST(Peers, AFileOfTimmIsFineTunedHereAndReadThere) {
  if (!fs::exists(fs::path(NFSCALE_SOURCE_DIR) / ".peers/bin/python"))
    GTEST_SKIP() << "no .peers: ./dev peers makes it";
  set_log_level(LogLevel::quiet);
  for (const auto& [timm, size] :
       {std::pair<std::string, int64_t>("vit_tiny_patch16_224", 224), {"dm_nfnet_f0", 64}}) {
    const fs::path folder =
        fs::path(testing::TempDir()) / fmt::format("nfscale-tuned-{}", ::getpid());
    fs::create_directories(folder);
    EXPECT_LT(logit_distance(timm, size, folder), 1e-5) << timm;
    const LoadedConfig config =
        load_config(std::nullopt,
                    {"data.train=fractal:?classes=5&per_class=4&size=64", "train.duration=3st",
                     "train.batch=8", "train.precision=f32", "optim.lr=0.01", "optim.sam_rho=0.05",
                     "log.tensorboard=false", fmt::format("train.image_size={}", size)});
    train(config, {.out = folder / "run",
                   .init = folder / "weights.safetensors",
                   .finetune = true,
                   .fork = "",
                   .resume = "never",
                   .threads = 2,
                   .device = at::kCPU});
    fs::rename(folder / "run/model.safetensors", folder / "weights.safetensors");
    EXPECT_LT(logit_distance(timm, size, folder), 1e-5) << timm;
    fs::remove_all(folder);
  }
}

// The largest distance between our logits and those of onnxruntime, relative to the largest logit.
double onnx_distance(const Model& model, const OnnxOptions& options,
                     const std::vector<std::vector<int64_t>>& batches) {
  const fs::path root(NFSCALE_SOURCE_DIR);
  const fs::path folder = fs::path(testing::TempDir()) / fmt::format("nfscale-onnx-{}", ::getpid());
  fs::create_directories(folder);
  const OnnxFile file = onnx_model(model, options);
  write_file(folder / "model.onnx", file.model);
  if (!file.data.empty()) write_file(folder / options.data_name, file.data);
  std::vector<std::vector<float>> pixels;
  std::vector<TensorView> views;
  for (const auto& shape : batches) {
    std::vector<float>& p = pixels.emplace_back();
    for (int64_t i = 0; i < shape[0] * shape[1] * shape[2] * shape[3]; ++i)
      p.push_back(2 * uniform(words(4, Op::generator, static_cast<uint64_t>(i))[0]) - 1);
  }
  for (size_t i = 0; i < batches.size(); ++i)
    views.push_back(view(fmt::format("images/{}", i), Dtype::f32, batches[i], pixels[i]));
  write_safetensors(folder / "images.safetensors", {}, views);
  const std::string command =
      fmt::format("'{}' '{}' '{}'", (root / ".peers/bin/python").string(),
                  (root / "tests/peers/onnx_logits.py").string(), folder.string());
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  const SafetensorsFile theirs = read_safetensors(folder / "logits.safetensors");
  double most = 0;
  Filters filters;
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < batches.size(); ++i) {
    const at::Tensor ours =
        forward(model, filters, at::from_blob(pixels[i].data(), batches[i], at::kFloat));
    std::vector<double> numbers = theirs.numbers(fmt::format("logits/{}", i));
    const at::Tensor other = at::from_blob(numbers.data(), ours.sizes(), at::kDouble);
    most = std::max(most, ((ours - other).abs().max() / other.abs().max()).item<double>());
  }
  fs::remove_all(folder);
  return most;
}

// Any weights, with open residual branches.
Model some_model(const ModelConfig& config, int64_t size) {
  Model model = make_model(make_arch(config, 10, sides_of(size)));
  init_weights(model, 5);
  at::manual_seed(1);
  for (size_t i = 0; i < model.params.size(); ++i) {
    if (model.params[i].shape.empty()) model.weights[i].detach().fill_(0.3);
    if (model.params[i].name.ends_with("bias") || model.params[i].head)
      model.weights[i].detach().normal_(0, 0.05);
  }
  return model;
}

TEST(Peers, OnnxFilesGiveTheSameLogitsInOnnxruntime) {
  const std::string probe =
      fmt::format("'{}' -c 'import onnx, onnxruntime' 2>/dev/null",
                  (fs::path(NFSCALE_SOURCE_DIR) / ".peers/bin/python").string());
  if (std::system(probe.c_str()) != 0)
    GTEST_SKIP() << "no onnxruntime in .peers: ./dev peers makes it";
  for (const char* numerics : {"deepmind", "timm"}) {
    ModelConfig nfnet;
    nfnet.name = "nfnet_n0";
    nfnet.numerics = numerics;
    // One picture, five, odd sides.
    EXPECT_LT(
        onnx_distance(some_model(nfnet, 32), {}, {{1, 3, 32, 32}, {5, 3, 32, 32}, {2, 3, 37, 21}}),
        1e-4)
        << numerics;
    for (const auto& [pool, after, position] : {std::tuple("map", "before", false),
                                                {"gap", "after", false},
                                                {"gap", "before", false},
                                                {"tok", "before", true},
                                                {"tok", "before", false}}) {
      ModelConfig vit;
      vit.name = "vit_n0";
      vit.numerics = numerics;
      vit.pool = pool;
      vit.pool_norm = after;
      vit.class_position = position;
      const Model model = some_model(vit, 32);
      EXPECT_LT(onnx_distance(model, {.size = 32}, {{1, 3, 32, 32}, {5, 3, 32, 32}}), 1e-4) << pool;
      // At another size than that of training, with numbers in a file beside.
      EXPECT_LT(onnx_distance(model, {.size = 40, .most_bytes = 1000}, {{2, 3, 40, 40}}), 1e-4)
          << pool;
    }
  }
}

// Ten steps beside torch.optim.AdamW from the same weights with the same gradients.
TEST(Peers, AdamwEqualsPyTorchs) {
  const fs::path root(NFSCALE_SOURCE_DIR), python = root / ".peers/bin/python";
  if (!fs::exists(python)) GTEST_SKIP() << "no .peers: ./dev peers makes it";
  constexpr int64_t kRowsOf = 7, kColumnsOf = 33, kSteps = 10;
  std::vector<float> weight, grads;
  for (uint64_t i = 0; i < kRowsOf * kColumnsOf * (kSteps + 1); ++i)
    (i < kRowsOf * kColumnsOf ? weight : grads)
        .push_back(2 * uniform(words(9, Op::generator, i)[0]) - 1);
  const fs::path folder =
      fs::path(testing::TempDir()) / fmt::format("nfscale-adamw-{}", ::getpid());
  fs::create_directories(folder);
  write_safetensors(folder / "in.safetensors", {},
                    {view("weight", Dtype::f32, {kRowsOf, kColumnsOf}, weight),
                     view("grads", Dtype::f32, {kSteps, kRowsOf, kColumnsOf}, grads)});
  const std::string command = fmt::format(
      "'{}' '{}' '{}' '{}'", python.string(), (root / "tests/peers/adamw_steps.py").string(),
      (folder / "in.safetensors").string(), (folder / "out.safetensors").string());
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  const std::vector<double> theirs = read_safetensors(folder / "out.safetensors").numbers("weight");
  fs::remove_all(folder);

  const at::Tensor w = at::from_blob(weight.data(), {kRowsOf, kColumnsOf}).clone();
  Optimizer optimizer({{"fc.weight", {kRowsOf, kColumnsOf}, Layer::Kind::linear, kColumnsOf}}, {w},
                      {.name = "adamw", .weight_decay = 0.1, .agc = 0, .agc_exclude = {}});
  for (int64_t t = 0; t < kSteps; ++t) {
    w.mutable_grad() =
        at::from_blob(grads.data() + t * kRowsOf * kColumnsOf, {kRowsOf, kColumnsOf});
    optimizer.clip({w});
    optimizer.step({w}, 0.01 * static_cast<double>(t + 1), {}, static_cast<uint64_t>(t));
  }
  for (int64_t i = 0; i < w.numel(); ++i)
    EXPECT_NEAR(static_cast<double>(w.const_data_ptr<float>()[i]), theirs[static_cast<size_t>(i)],
                1e-6);
}

}  // namespace
}  // namespace nfscale
