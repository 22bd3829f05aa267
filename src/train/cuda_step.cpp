#include "train/cuda_step.h"

#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include "base/error.h"
#include "model/cuda.h"
#include "train/cuda_input.h"

namespace nfscale {
namespace {

// Tensors of given shapes, one behind the other in one piece of memory, which one operation clears
// or adds up.
struct Pieces {
  at::Tensor memory;
  std::vector<at::Tensor> tensors;
};
Pieces make_pieces(const std::vector<at::IntArrayRef>& shapes, const at::TensorOptions& options) {
  constexpr int64_t kAlignment = 128;  // numbers: at least 256 bytes
  Pieces pieces;
  std::vector<int64_t> begins;
  int64_t end = 0;
  for (const at::IntArrayRef shape : shapes) {
    begins.push_back(end);
    end += (c10::multiply_integers(shape) + kAlignment - 1) / kAlignment * kAlignment;
  }
  pieces.memory = at::zeros({end}, options);
  for (size_t i = 0; i < shapes.size(); ++i)
    pieces.tensors.push_back(
        pieces.memory.narrow(0, begins[i], c10::multiply_integers(shapes[i])).view(shapes[i]));
  return pieces;
}

std::vector<at::Tensor> copies(const std::vector<at::Tensor>& tensors, at::Device device) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& t : tensors) result.push_back(t.detach().to(device));
  return result;
}

// A value in device memory and its counterpart in pinned memory.
template <class T>
struct Shared {
  at::Tensor pinned, device;

  explicit Shared(at::Device where)
      : pinned(at::zeros({sizeof(T)}, at::TensorOptions(at::kByte).pinned_memory(true))),
        device(at::zeros({sizeof(T)}, at::TensorOptions(at::kByte).device(where))) {}
  T* host() const { return static_cast<T*>(pinned.data_ptr()); }
  T* on_device() const { return static_cast<T*>(device.data_ptr()); }
  void upload() { device.copy_(pinned, /*non_blocking=*/true); }
  void download() { pinned.copy_(device, /*non_blocking=*/true); }
};

class CudaStepper : public Stepper {
 public:
  CudaStepper(c10::cuda::CUDAStream stream, const Model& model, Optimizer& optimizer,
              const Ema& ema, at::ScalarType compute, const StepSettings& settings,
              int eager_steps);
  ~CudaStepper() override;
  StepResult step(const Batch& batch, const Batch* next, double lr, uint64_t t) override;
  void to_host() override;

 private:
  void make_gradients();
  void prepare(const Batch& batch);
  std::vector<cuda::Parameter> parameter_table() const;
  void number_units(std::vector<cuda::Parameter>& parameters,
                    const std::vector<cuda::Filter>& filters, std::vector<cuda::Unit>& units);
  void make_tables();
  void run();
  void compute();
  void compute_part(int64_t begin, int64_t end);
  void update_weights();

  const Model& host_model_;
  Optimizer& host_optimizer_;
  const Ema& host_ema_;
  StepSettings settings_;
  c10::cuda::CUDAStream stream_;  // of everything but the upload
  at::Device device_;

  Model model_;
  std::vector<at::Tensor> momentum_, average_;
  Filters filters_;
  // Autograd adds to those of filters and of all other parameters; the kernels make those of
  // convolutions' weights and gains.
  Pieces d_filters_, d_others_, d_weights_;
  Pieces sums_;  // float, of d_filters_ in bfloat16 over several micro-batches; else undefined

  at::Tensor parameter_table_, filter_table_, unit_table_, squares_;
  cuda::Tables tables_{};
  cuda::UpdateSettings update_{};

  std::optional<CudaInput> input_;
  at::Tensor totals_;  // double: loss, share of right answers
  Shared<cuda::StepNumbers> numbers_;
  Shared<cuda::Outcome> outcome_;
  at::cuda::CUDAEvent done_;
  int eager_steps_;  // left
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
};

// ---------------------------------------------------------------- what stays on the device
CudaStepper::CudaStepper(c10::cuda::CUDAStream stream, const Model& model, Optimizer& optimizer,
                         const Ema& ema, at::ScalarType compute, const StepSettings& settings,
                         int eager_steps)
    : host_model_(model),
      host_optimizer_(optimizer),
      host_ema_(ema),
      settings_(settings),
      stream_(stream),
      device_(stream.device()),
      model_{model.arch, model.params, copies(model.weights, device_)},
      momentum_(copies(optimizer.momentum, device_)),
      average_(copies(ema.average, device_)),
      filters_(make_filters(model_, compute, true)),
      totals_(at::zeros({2}, at::TensorOptions(at::kDouble).device(device_))),
      numbers_(device_),
      outcome_(device_),
      eager_steps_(eager_steps) {
  const OptimizerSettings& o = optimizer.settings();
  if (model.arch.is_vit()) not_supported("--device cuda with a Vision Transformer");
  if (settings.sam.rho > 0) not_supported("--device cuda with optim.sam_rho");
  if (o.name != "sgd" || o.layer_decay != 1)
    not_supported("--device cuda with optim.name = \"" + o.name + "\" and optim.layer_decay");
  if (filters_.of_layer.empty())
    fail(Exit::usage, "{}: activations in {} are not computed on a GPU", model.arch.name,
         c10::toString(compute));
  update_ = {.clip = {.threshold = o.agc, .eps = o.agc_eps, .clip_norm = o.clip_norm},
             .momentum = o.momentum,
             .nesterov = o.nesterov};
  make_gradients();
}

CudaStepper::~CudaStepper() {
  // The copy of a last upload may still run, and its memory goes.
  const c10::cuda::CUDAGuard guard(device_);
  C10_CUDA_CHECK_WARN(cudaDeviceSynchronize());
}

std::vector<at::IntArrayRef> shapes(const Filters& filters) {
  std::vector<at::IntArrayRef> result;
  for (const Filter& f : filters.of_layer)
    if (f.value.defined()) result.push_back(f.value.sizes());
  return result;
}

void CudaStepper::make_gradients() {
  std::vector<at::IntArrayRef> of_weights, of_others;
  std::vector<bool> by_kernels(model_.weights.size());
  for (const Filter& f : filters_.of_layer)
    if (f.value.defined()) by_kernels[f.weight] = by_kernels[f.gain] = true;
  for (size_t k = 0; k < model_.weights.size(); ++k)
    (by_kernels[k] ? of_weights : of_others).push_back(model_.weights[k].sizes());
  const at::TensorOptions options = at::TensorOptions(at::kFloat).device(device_);
  d_filters_ = make_pieces(shapes(filters_), options.dtype(filters_.compute));
  d_weights_ = make_pieces(of_weights, options);
  d_others_ = make_pieces(of_others, options);
  size_t filter = 0, weight = 0, other = 0;
  for (Filter& f : filters_.of_layer)
    if (f.value.defined()) f.value.requires_grad_().mutable_grad() = d_filters_.tensors[filter++];
  for (size_t k = 0; k < model_.weights.size(); ++k) {
    model_.weights[k].requires_grad_(!by_kernels[k]);
    model_.weights[k].mutable_grad() =
        by_kernels[k] ? d_weights_.tensors[weight++] : d_others_.tensors[other++];
  }
}

// What depends on the size of a batch.
void CudaStepper::prepare(const Batch& batch) {
  input_.emplace(model_.arch, batch.rows, batch.size, settings_.seed, device_);
  if (settings_.micro_batch < batch.rows && filters_.compute != at::kFloat)
    sums_ = make_pieces(shapes(filters_), at::TensorOptions(at::kFloat).device(device_));
  make_tables();
}

std::vector<cuda::Parameter> CudaStepper::parameter_table() const {
  std::vector<cuda::Parameter> table;
  for (size_t k = 0; k < model_.weights.size(); ++k) {
    const Optimizer::Rule rule = host_optimizer_.rule(k);
    const at::Tensor& w = model_.weights[k];
    table.push_back({.weight = w.mutable_data_ptr<float>(),
                     .momentum = momentum_[k].mutable_data_ptr<float>(),
                     .average = average_.empty() ? nullptr : average_[k].mutable_data_ptr<float>(),
                     .gradient = w.grad().mutable_data_ptr<float>(),
                     .length = w.numel() / rule.units,
                     .first_unit = 0,
                     .decay = rule.decay,
                     .clips = rule.clips});
  }
  return table;
}

// Behind the rows of filters the units of all other parameters, those of gains last; every
// parameter learns where its units begin.
void CudaStepper::number_units(std::vector<cuda::Parameter>& parameters,
                               const std::vector<cuda::Filter>& filters,
                               std::vector<cuda::Unit>& units) {
  std::vector<bool> numbered(parameters.size()), is_gain(parameters.size());
  for (const cuda::Filter& f : filters) is_gain[static_cast<size_t>(f.gain_parameter)] = true;
  for (size_t u = 0; u < units.size(); ++u) {
    const auto k = static_cast<size_t>(units[u].parameter);
    if (!numbered[k]) parameters[k].first_unit = static_cast<int64_t>(u);
    numbered[k] = true;
  }
  tables_.filter_rows = std::ssize(units);
  for (const bool gains : {false, true}) {
    const int64_t before = std::ssize(units);
    for (size_t k = 0; k < parameters.size(); ++k) {
      if (numbered[k] || is_gain[k] != gains) continue;
      parameters[k].first_unit = std::ssize(units);
      const int64_t count = model_.weights[k].numel() / parameters[k].length;
      for (int32_t row = 0; row < count; ++row) units.push_back({static_cast<int32_t>(k), -1, row});
    }
    (gains ? tables_.gains : tables_.others) = std::ssize(units) - before;
  }
}

void CudaStepper::make_tables() {
  FilterTable table = filter_table(model_, filters_);
  std::vector<cuda::Parameter> parameters = parameter_table();
  for (size_t i = 0; i < table.filters.size(); ++i) {
    cuda::Filter& f = table.filters[i];
    f.d_value = (sums_.memory.defined() ? sums_ : d_filters_).tensors[i].data_ptr();
    // The rows of a filter are the units of its weight.
    NFSCALE_CHECK(parameters[static_cast<size_t>(f.parameter)].length == f.in * f.taps);
  }
  number_units(parameters, table.filters, table.rows);
  parameter_table_ = table_on_gpu(parameters, device_);
  filter_table_ = table_on_gpu(table.filters, device_);
  unit_table_ = table_on_gpu(table.rows, device_);
  squares_ = at::zeros({std::ssize(table.rows), 2}, totals_.options());
  tables_.parameters = static_cast<const cuda::Parameter*>(parameter_table_.data_ptr());
  tables_.filters = static_cast<const cuda::Filter*>(filter_table_.data_ptr());
  tables_.units = static_cast<const cuda::Unit*>(unit_table_.data_ptr());
  tables_.squares = static_cast<cuda::Squares*>(squares_.data_ptr());
}

// ---------------------------------------------------------------- what a step does there
void CudaStepper::compute() {
  const int64_t rows = input_->input().labels.size(0);
  totals_.zero_();
  d_others_.memory.zero_();
  d_filters_.memory.zero_();
  for (int64_t begin = 0; begin < rows; begin += settings_.micro_batch) {
    compute_part(begin, std::min(begin + settings_.micro_batch, rows));
    if (!sums_.memory.defined()) continue;
    if (begin == 0)
      sums_.memory.copy_(d_filters_.memory);
    else
      sums_.memory.add_(d_filters_.memory);
    d_filters_.memory.zero_();
  }
  update_weights();
}

void CudaStepper::compute_part(int64_t begin, int64_t end) {
  const StepInput& input = input_->input();
  const auto part = [&](const at::Tensor& t) {
    return t.defined() ? t.narrow(0, begin, end - begin) : t;
  };
  Masks masks;
  for (const at::Tensor& mask : input.masks.drop_path) masks.drop_path.push_back(part(mask));
  masks.head = part(input.masks.head);
  const at::Tensor labels = part(input.labels), weights = part(input.weights);
  const at::Tensor images = part(input.pixels).permute({0, 3, 1, 2});
  const at::Tensor logits = forward(model_, filters_, images, &masks);
  const at::Tensor loss = (example_losses(logits, labels, settings_.loss) * weights).sum();
  totals_.select(0, 0).add_(loss.detach());
  totals_.select(0, 1).add_(((logits.detach().argmax(1) == labels) * weights).sum());
  loss.backward();
}

void CudaStepper::update_weights() {
  const cudaStream_t stream = stream_.stream();
  const cuda::Type type = kernel_type(filters_.compute);
  cuda::standardize_backward(tables_, sums_.memory.defined() ? cuda::Type::f32 : type, stream);
  cuda::measure_units(tables_, stream);
  cuda::decide(tables_, update_.clip, totals_.const_data_ptr<double>(), outcome_.on_device(),
               stream);
  cuda::update(tables_, update_, numbers_.on_device(), outcome_.on_device(), type, stream);
}

void CudaStepper::run() {
  if (eager_steps_ > 0) {
    --eager_steps_;
    compute();
    return;
  }
  if (!graph_) {
    // The graph has memory of its own; what the eager steps used would lie idle.
    stream_.synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();
    auto graph = std::make_unique<at::cuda::CUDAGraph>();
    graph->capture_begin();
    compute();
    graph->capture_end();
    graph_ = std::move(graph);
  }
  graph_->replay();
}

StepResult CudaStepper::step(const Batch& batch, const Batch* next, double lr, uint64_t t) {
  StepResult result;
  result.empty =
      std::all_of(batch.weights.begin(), batch.weights.end(), [](float w) { return w == 0; });
  if (result.empty) return result;
  const c10::cuda::CUDAStreamGuard guard(stream_);
  if (!input_) prepare(batch);
  if (!input_->uploaded(batch)) input_->upload(batch);
  input_->take();
  const auto number = static_cast<double>(t);
  *numbers_.host() = {lr, std::min(host_ema_.decay, (1 + number) / (10 + number))};
  numbers_.upload();
  run();
  outcome_.download();
  done_.record(stream_);
  if (next) input_->upload(*next);
  done_.synchronize();
  const cuda::Outcome& o = *outcome_.host();
  result.loss = o.loss;
  result.top1 = o.top1;
  result.stats = {.grad_norm = o.grad_norm, .agc_clipped = o.clipped};
  result.finite = o.finite != 0;
  return result;
}

void CudaStepper::to_host() {
  const at::NoGradGuard no_grad;
  const c10::cuda::CUDAStreamGuard guard(stream_);
  for (size_t k = 0; k < model_.weights.size(); ++k) {
    host_model_.weights[k].detach().copy_(model_.weights[k]);
    host_optimizer_.momentum[k].copy_(momentum_[k]);
    if (!average_.empty()) host_ema_.average[k].detach().copy_(average_[k]);
  }
}

}  // namespace

std::unique_ptr<Stepper> make_cuda_stepper(at::Device device, const Model& model,
                                           Optimizer& optimizer, const Ema& ema,
                                           at::ScalarType compute, const StepSettings& settings,
                                           int eager_steps) {
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool(false, device.index());
  const c10::cuda::CUDAStreamGuard guard(stream);
  return std::make_unique<CudaStepper>(stream, model, optimizer, ema, compute, settings,
                                       eager_steps);
}

}  // namespace nfscale
