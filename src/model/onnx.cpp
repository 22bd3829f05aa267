#include "model/onnx.h"

#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>

#include <cmath>
#include <protozero/pbf_writer.hpp>
#include <unordered_map>

#include "model/ops.h"
#include "model/vit.h"

namespace nfscale {
namespace {

// ---------------------------------------------------------------- messages
// Fields by their numbers in onnx.proto3.
class Message {
 public:
  Message& number(uint32_t field, int64_t value) {
    protozero::pbf_writer(bytes_).add_int64(field, value);
    return *this;
  }
  Message& real(uint32_t field, float value) {
    protozero::pbf_writer(bytes_).add_float(field, value);
    return *this;
  }
  Message& text(uint32_t field, std::string_view value) {
    protozero::pbf_writer(bytes_).add_bytes(field, value.data(), value.size());
    return *this;
  }
  Message& message(uint32_t field, const Message& value) { return text(field, value.bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

constexpr int kFloat = 1, kInt64 = 7;  // TensorProto.DataType

Message entry(const std::string& key, const std::string& value) {
  return Message().text(1, key).text(2, value);
}

Message attribute(const std::string& name, int64_t value) {
  return Message().text(1, name).number(3, value).number(20, 2);
}
Message attribute(const std::string& name, float value) {
  return Message().text(1, name).real(2, value).number(20, 1);
}
Message attribute(const std::string& name, const std::string& value) {
  return Message().text(1, name).text(4, value).number(20, 3);
}
Message attribute(const std::string& name, const std::vector<int64_t>& values) {
  Message m;
  m.text(1, name);
  for (const int64_t v : values) m.number(8, v);
  return m.number(20, 7);
}

// A tensor's place in a graph: dimensions of -1 are free, with the names N, H, W.
Message value_info(const std::string& name, const std::vector<int64_t>& shape) {
  const char* const names[] = {"N", "C", "H", "W"};
  Message dims;
  for (size_t i = 0; i < shape.size(); ++i)
    dims.message(1, shape[i] < 0 ? Message().text(2, names[i]) : Message().number(1, shape[i]));
  const Message tensor = Message().number(1, kFloat).message(2, dims);
  return Message().text(1, name).message(2, Message().message(1, tensor));
}

// ---------------------------------------------------------------- graph
class Graph {
 public:
  // The name of what an operation gives.
  std::string add(const std::string& operation, const std::vector<std::string>& inputs,
                  const std::vector<Message>& attributes = {}) {
    return add(operation, inputs, attributes, 1)[0];
  }
  std::vector<std::string> add(const std::string& operation, const std::vector<std::string>& inputs,
                               const std::vector<Message>& attributes, size_t outputs) {
    const std::string name = fmt::format("{}_{}", operation, count_++);
    Message node;
    for (const std::string& input : inputs) node.text(1, input);
    std::vector<std::string> names;
    for (size_t i = 0; i < outputs; ++i) {
      names.push_back(outputs > 1 ? fmt::format("{}.{}", name, i) : name);
      node.text(2, names.back());
    }
    node.text(3, name).text(4, operation);
    for (const Message& a : attributes) node.message(5, a);
    graph_.message(1, node);
    return names;
  }
  std::string constant(const std::string& name, const at::Tensor& value) {
    numbers_.push_back({name, value.to(at::kFloat).contiguous()});
    return name;
  }
  std::string number(double value) {
    return constant(fmt::format("number_{}", count_++),
                    at::full({}, value, at::TensorOptions(at::kDouble)));
  }
  std::string integers(const std::vector<int64_t>& values) {
    const std::string name = fmt::format("integers_{}", count_++);
    Message tensor;
    tensor.number(1, static_cast<int64_t>(values.size())).number(2, kInt64).text(8, name);
    tensor.text(9, {reinterpret_cast<const char*>(values.data()), values.size() * 8});
    graph_.message(5, tensor);
    return name;
  }

  OnnxFile file(const std::vector<int64_t>& images, const std::string& logits, int64_t classes,
                const std::string& name, const OnnxOptions& o) {
    add_identity(logits);
    OnnxFile f;
    size_t bytes = 0;
    for (const auto& [key, value] : numbers_) bytes += value.nbytes();
    for (const auto& [key, value] : numbers_)
      graph_.message(5, tensor(key, value, bytes > o.most_bytes ? &f.data : nullptr, o.data_name));
    graph_.text(2, name);
    graph_.message(11, value_info("images", images))
        .message(12, value_info("logits", {-1, classes}));
    Message model;
    model.number(1, 8).text(2, "nfscale").text(3, NFSCALE_VERSION).message(7, graph_);
    model.message(8, Message().text(1, "").number(2, 17));
    for (const auto& [key, value] : o.metadata) model.message(14, entry(key, value));
    f.model = model.bytes();
    return f;
  }

 private:
  void add_identity(const std::string& logits) {
    Message node;
    node.text(1, logits).text(2, "logits").text(3, "logits").text(4, "Identity");
    graph_.message(1, node);
  }
  static Message tensor(const std::string& name, const at::Tensor& value, std::string* outside,
                        const std::string& data_name) {
    Message t;
    for (const int64_t side : value.sizes()) t.number(1, side);
    t.number(2, kFloat).text(8, name);
    const std::string_view raw(static_cast<const char*>(value.const_data_ptr()), value.nbytes());
    if (!outside) return t.text(9, raw);
    t.message(13, entry("location", data_name));
    t.message(13, entry("offset", std::to_string(outside->size())));
    t.message(13, entry("length", std::to_string(raw.size()))).number(14, 1);
    *outside += raw;
    return t;
  }

  Message graph_;
  std::vector<std::pair<std::string, at::Tensor>> numbers_;
  int64_t count_ = 0;
};

// What both families have.
class Writer {
 public:
  explicit Writer(const Model& model)
      : m_(model), timm_(numerics_of(model.arch) == Numerics::timm) {
    for (size_t i = 0; i < m_.params.size(); ++i) by_name_[m_.params[i].name] = i;
  }

 protected:
  at::Tensor weight(const std::string& name) const {
    return m_.weights[by_name_.at(name)].detach().to(at::kDouble);
  }
  std::string stored(const std::string& name) { return g_.constant(name, weight(name)); }

  std::string gelu(const std::string& x) {
    const std::string half = g_.add("Mul", {x, g_.number(0.5)});
    std::string bent;
    if (timm_) {
      bent = g_.add("Erf", {g_.add("Mul", {x, g_.number(std::sqrt(0.5))})});
    } else {
      const std::string cube = g_.add("Mul", {x, g_.add("Mul", {x, x})});
      const std::string sum = g_.add("Add", {x, g_.add("Mul", {cube, g_.number(0.044715)})});
      bent =
          g_.add("Tanh", {g_.add("Mul", {sum, g_.number(std::sqrt(2 / 3.14159265358979323846))})});
    }
    return g_.add("Mul", {half, g_.add("Add", {bent, g_.number(1)})});
  }
  // Of features [N, F].
  std::string classify(const std::string& x, const std::string& layer, double factor) {
    const std::string w = g_.constant(layer + ".weight", weight(layer + ".weight") * factor);
    return g_.add("Gemm", {x, w, stored(layer + ".bias")}, {attribute("transB", int64_t{1})});
  }

  const Model& m_;
  bool timm_;
  Graph g_;
  std::unordered_map<std::string, size_t> by_name_;
};

// ---------------------------------------------------------------- NFNets
class NfnetWriter : public Writer {
 public:
  explicit NfnetWriter(const Model& model) : Writer(model), factors_(input_factors(model.arch)) {}

  OnnxFile write(const OnnxOptions& o) {
    const Arch& a = m_.arch;
    std::string x = "images";
    for (size_t i = 0; i < a.stem.size(); ++i) x = conv(a.stem[i], i ? gelu(x) : x);
    for (const Block& b : a.blocks) x = block(b, x);
    x = gelu(conv(a.final_conv, x));
    x = g_.add("Flatten", {g_.add("GlobalAveragePool", {x})});
    return g_.file({-1, a.in_channels, -1, -1}, classify(x, "head.fc", kGeluFactor), a.classes,
                   a.name, o);
  }

 private:
  std::string conv(int layer, const std::string& x) {
    const Layer& l = m_.arch.layers[static_cast<size_t>(layer)];
    const at::Tensor w = standardize(weight(l.name + ".weight"), weight(l.name + ".gain"),
                                     numerics_of(m_.arch), factors_[static_cast<size_t>(layer)]);
    return g_.add("Conv", {x, g_.constant(l.name + ".weight", w), stored(l.name + ".bias")},
                  {attribute("auto_pad", std::string("SAME_UPPER")), attribute("group", l.groups),
                   attribute("kernel_shape", std::vector<int64_t>{l.kernel, l.kernel}),
                   attribute("strides", std::vector<int64_t>{l.stride, l.stride})});
  }
  std::string one_by_one(const std::string& name, const std::string& x) {
    return g_.add("Conv", {x, stored(name + ".weight"), stored(name + ".bias")});
  }
  std::string pool(const std::string& x) {
    const std::vector<int64_t> two = {2, 2};
    return g_.add("AveragePool", {x},
                  {attribute("auto_pad", std::string("SAME_UPPER")), attribute("kernel_shape", two),
                   attribute("strides", two)});
  }

  std::string block(const Block& b, const std::string& x) {
    const std::string active = gelu(x);
    std::string shortcut = x;
    if (b.projection >= 0) shortcut = conv(b.projection, b.stride == 2 ? pool(active) : active);
    std::string h = conv(b.conv1, active);
    for (const int layer : {b.conv2, b.conv2b, b.conv3}) h = conv(layer, gelu(h));
    const std::string name = b.name + ".attn_last.";
    const std::string mean = g_.add("GlobalAveragePool", {h});
    const std::string hidden = g_.add("Relu", {one_by_one(name + "fc1", mean)});
    const std::string gate = g_.add("Sigmoid", {one_by_one(name + "fc2", hidden)});
    const double factor = weight(b.name + ".skipinit_gain").item<double>() * 2 * m_.arch.alpha;
    const std::string scaled = g_.add("Mul", {gate, g_.number(factor)});
    return g_.add("Add", {shortcut, g_.add("Mul", {h, scaled})});
  }

  std::vector<double> factors_;
};

// ---------------------------------------------------------------- Vision Transformers
class VitWriter : public Writer {
 public:
  explicit VitWriter(const Model& model) : Writer(model), s_(model.arch.vit) {}

  OnnxFile write(const OnnxOptions& o) {
    std::string x = embed(o.size);
    for (int64_t i = 0; i < s_.depth; ++i) {
      const std::string name = fmt::format("blocks.{}", i);
      x = g_.add("Add", {x, attention(name + ".attn", norm(name + ".norm1", x))});
      x = g_.add("Add", {x, mlp(name + ".mlp", norm(name + ".norm2", x))});
    }
    return g_.file({-1, m_.arch.in_channels, o.size, o.size}, classify(features(x), "head", 1),
                   m_.arch.classes, m_.arch.name, o);
  }

 private:
  std::string linear(const std::string& name, const std::string& x) {
    const std::string w = g_.constant(name + ".weight", weight(name + ".weight").t());
    return g_.add("Add", {g_.add("MatMul", {x, w}), stored(name + ".bias")});
  }
  std::string norm(const std::string& name, const std::string& x) {
    return g_.add("LayerNormalization", {x, stored(name + ".weight"), stored(name + ".bias")},
                  {attribute("axis", int64_t{-1}), attribute("epsilon", 1e-6f)});
  }
  std::string mlp(const std::string& name, const std::string& x) {
    return linear(name + ".fc2", gelu(linear(name + ".fc1", x)));
  }

  std::string heads(const std::string& x, const std::vector<int64_t>& order) {
    const std::string split =
        g_.add("Reshape", {x, g_.integers({0, 0, s_.heads, s_.width / s_.heads})});
    return g_.add("Transpose", {split}, {attribute("perm", order)});
  }
  std::string attend(const std::string& q, const std::string& k, const std::string& v) {
    const double scale = 1 / std::sqrt(static_cast<double>(s_.width / s_.heads));
    const std::string scores =
        g_.add("MatMul",
               {g_.add("Mul", {heads(q, {0, 2, 1, 3}), g_.number(scale)}), heads(k, {0, 2, 3, 1})});
    const std::string chosen = g_.add("Softmax", {scores}, {attribute("axis", int64_t{-1})});
    const std::string mixed = g_.add("MatMul", {chosen, heads(v, {0, 2, 1, 3})});
    const std::string rows =
        g_.add("Transpose", {mixed}, {attribute("perm", std::vector<int64_t>{0, 2, 1, 3})});
    return g_.add("Reshape", {rows, g_.integers({0, 0, s_.width})});
  }
  std::vector<std::string> parts(const std::string& x, int64_t count) {
    const std::vector<int64_t> widths(static_cast<size_t>(count), s_.width);
    return g_.add("Split", {x, g_.integers(widths)}, {attribute("axis", int64_t{-1})},
                  static_cast<size_t>(count));
  }
  std::string attention(const std::string& name, const std::string& x) {
    const std::vector<std::string> qkv = parts(linear(name + ".qkv", x), 3);
    return linear(name + ".proj", attend(qkv[0], qkv[1], qkv[2]));
  }

  // Patches [N, T, D], with position embeddings for pictures of `size`.
  std::string embed(int64_t size) {
    const int64_t p = s_.patch;
    const std::vector<int64_t> sides = {p, p};
    const std::string grid = g_.add(
        "Conv", {"images", stored("patch_embed.proj.weight"), stored("patch_embed.proj.bias")},
        {attribute("kernel_shape", sides), attribute("strides", sides)});
    const std::string columns = g_.add("Reshape", {grid, g_.integers({0, s_.width, -1})});
    const std::string tokens =
        g_.add("Transpose", {columns}, {attribute("perm", std::vector<int64_t>{0, 2, 1})});
    const at::Tensor positions = resize_position_embedding(
        weight("pos_embed"), s_.prefix(), s_.grid, {size / p, size / p}, numerics_of(m_.arch));
    const std::string x =
        g_.add("Add", {tokens, g_.constant("pos_embed", positions.slice(1, s_.prefix()))});
    if (s_.pool != "tok") return x;
    at::Tensor token = weight("cls_token");
    if (s_.class_position) token = token + positions.slice(1, 0, 1);
    const std::string batch = g_.add("Shape", {x}, {attribute("end", int64_t{1})});
    const std::string shape =
        g_.add("Concat", {batch, g_.integers({1, s_.width})}, {attribute("axis", int64_t{0})});
    const std::string repeated = g_.add("Expand", {g_.constant("cls_token", token), shape});
    return g_.add("Concat", {repeated, x}, {attribute("axis", int64_t{1})});
  }

  // The first token of [N, T, D].
  std::string first(const std::string& x) {
    return g_.add("Flatten",
                  {g_.add("Slice", {x, g_.integers({0}), g_.integers({1}), g_.integers({1})})});
  }

  std::string features(const std::string& tokens) {
    const std::string x = s_.norm_after ? tokens : norm("norm", tokens);
    if (s_.pool == "tok") return first(x);
    if (s_.pool == "gap") {
      const std::string mean =
          g_.add("ReduceMean", {x},
                 {attribute("axes", std::vector<int64_t>{1}), attribute("keepdims", int64_t{0})});
      return s_.norm_after ? norm("fc_norm", mean) : mean;
    }
    const std::vector<std::string> kv = parts(linear("attn_pool.kv", x), 2);
    // The one query does not depend on the picture.
    const at::Tensor q = at::linear(weight("attn_pool.latent"), weight("attn_pool.q.weight"),
                                    weight("attn_pool.q.bias"));
    const std::string y =
        linear("attn_pool.proj", attend(g_.constant("attn_pool.query", q), kv[0], kv[1]));
    return first(g_.add("Add", {y, mlp("attn_pool.mlp", norm("attn_pool.norm", y))}));
  }

  const VitShape& s_;
};

}  // namespace

OnnxFile onnx_model(const Model& model, const OnnxOptions& options) {
  const at::NoGradGuard no_grad;
  if (model.arch.is_vit()) return VitWriter(model).write(options);
  return NfnetWriter(model).write(options);
}

}  // namespace nfscale
