#include "train/weights_file.h"

#include <cmath>
#include <set>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "config/load.h"

namespace nfscale {
namespace {

namespace fs = std::filesystem;

Json table_of(const Config& config, const std::string& table) {
  Json object = Json::object();
  for (const auto& [key, value] : config_values(config))
    if (key.starts_with(table + ".") && !value.is_null())
      object.set(key.substr(table.size() + 1), value);
  return object;
}

Path newest_checkpoint(const Path& run) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-")) names.insert(name);
  }
  if (names.empty())
    fail(Exit::usage, "{}: no weights: neither model.safetensors nor a checkpoint", run.string());
  return run / "checkpoints" / *names.rbegin();
}

bool fits(const Arch& arch, const SafetensorsFile& file) {
  const std::vector<Param> params = arch.params();
  if (params.size() != file.tensors.size()) return false;
  return std::all_of(params.begin(), params.end(), [&](const Param& p) {
    const TensorView* t = file.find(p.name);
    return t && t->shape == p.shape;
  });
}

// A model and the sides of the pictures of its position embedding.
struct Inferred {
  ModelConfig model;
  Sides sides{};
};

// What model_names() does not say of a model: rounding of an NFNet, pooling of a Transformer.
std::vector<ModelConfig> variants(const std::string& name) {
  ModelConfig config;
  config.name = name;
  config.numerics = "timm";
  std::vector<ModelConfig> all;
  if (!name.starts_with("vit")) {
    for (const char* rounding : {"keep", "floor"}) {
      config.bottleneck_round = rounding;
      all.push_back(config);
    }
    return all;
  }
  for (const auto& [pool, after, position] : {std::tuple("tok", false, true),
                                              {"tok", false, false},
                                              {"map", false, false},
                                              {"gap", true, false},
                                              {"gap", false, false}}) {
    config.pool = pool;
    config.pool_norm = after ? "after" : "before";
    config.class_position = position;
    all.push_back(config);
  }
  return all;
}

// Square pictures of a file's position embedding; {} where it has none that fits the model.
Sides sides_of_file(const ModelConfig& model, const SafetensorsFile& file) {
  const TensorView *positions = file.find("pos_embed"),
                   *patches = file.find("patch_embed.proj.weight");
  if (!positions || positions->shape.size() != 3 || !patches || patches->shape.size() != 4)
    return {};
  const int64_t tokens = positions->shape[1] - (model.class_position.value_or(false) ? 1 : 0);
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(tokens))));
  return side * side == tokens ? sides_of(side * patches->shape[3]) : Sides{};
}

// A file without metadata of ours: the known architecture whose names and shapes it has.
Inferred infer_model(const SafetensorsFile& file, const std::string& model_name) {
  const TensorView* head = nullptr;
  for (const char* name : {"head.fc.bias", "head.bias"})
    if (const TensorView* t = file.find(name)) head = t;
  if (!head || head->shape.size() != 1)
    fail(Exit::usage,
         "{}: not weights of a known model: neither head.fc.bias nor head.bias is there",
         file.path.string());
  const std::vector<std::string> known = model_names();
  for (const std::string& name :
       model_name.empty() ? known : std::vector<std::string>{model_name}) {
    const bool vit = name.starts_with("vit");
    for (ModelConfig& config : variants(name)) {
      config.classes = head->shape[0];
      const Sides sides = vit ? sides_of_file(config, file) : Sides{};
      if (vit && sides == Sides{}) continue;
      const int64_t patch = vit ? file.find("patch_embed.proj.weight")->shape[3] : 1;
      const bool other_patch = vit && make_arch(config, config.classes).vit.patch != patch;
      if (!other_patch && fits(make_arch(config, config.classes, sides), file))
        return {config, sides};
    }
    // Loading names what does not fit.
    if (!model_name.empty()) {
      ModelConfig config = variants(name).front();
      config.classes = head->shape[0];
      return {config, {}};
    }
  }
  fail(Exit::usage, "{}: names and shapes fit no known model; give --model", file.path.string());
}

}  // namespace

std::map<std::string, std::string> weight_metadata(const Config& config, const Arch& arch,
                                                   const std::vector<std::string>& class_names,
                                                   const std::string& precision, bool ema) {
  Json model = table_of(config, "model");
  model.set("classes", arch.classes);
  const Json preprocessing = Json::object({{"mean", Json(config.data.mean)},
                                           {"std", Json(config.data.std)},
                                           {"eval_crop", config.data.eval_crop},
                                           {"exif", config.data.exif},
                                           {"image_size", config.train.image_size},
                                           {"eval_size", config.train.eval_size}});
  return {{"format", "pt"},
          {"nfscale", NFSCALE_VERSION},
          {"nfscale.model", model.dump()},
          {"nfscale.classes", Json(class_names).dump()},
          {"nfscale.preprocessing", preprocessing.dump()},
          {"nfscale.precision", precision},
          {"nfscale.loss", config.loss.kind},
          {"nfscale.ema", ema ? "on" : "off"}};
}

Path weight_file_of(const Path& checkpoint, const std::string& ema) {
  if (!is_there(checkpoint)) fail(Exit::usage, "{}: no such file or folder", checkpoint.string());
  if (!fs::is_directory(checkpoint)) return checkpoint;
  if (is_there(checkpoint / "MANIFEST")) {
    const bool average = is_there(checkpoint / "ema.safetensors");
    if (ema == "on" && !average)
      fail(Exit::usage, "{}: --ema on, but the run kept no average", checkpoint.string());
    return checkpoint / (average && ema != "off" ? "ema.safetensors" : "model.safetensors");
  }
  if (ema.empty() && is_there(checkpoint / "model.safetensors"))
    return checkpoint / "model.safetensors";
  return weight_file_of(newest_checkpoint(checkpoint), ema);
}

TrainedModel load_trained(const Path& checkpoint, const std::string& ema,
                          const std::string& model_name) {
  TrainedModel t;
  t.file = weight_file_of(checkpoint, ema);
  const SafetensorsFile file = read_safetensors(t.file);
  const std::string where = t.file.string();
  Config config;
  Sides sides{};
  t.foreign = !file.metadata.contains("nfscale.model");
  if (t.foreign) {
    const Inferred inferred = infer_model(file, model_name);
    config.model = inferred.model;
    sides = inferred.sides;
    config.data.exif = "ignore";
    // As timm normalises for its Vision Transformers.
    if (config.model.name.starts_with("vit")) config.data.mean = config.data.std = {0.5, 0.5, 0.5};
    t.image_size = t.eval_size = sides[0] ? sides[0] : default_size(config.model.name);
    config.data.eval_crop = t.eval_size < 128 ? "pct:1" : "pct:0.9";
  } else {
    const auto json = [&](const char* key) {
      return parse_json(file.meta(key), where + ": " + key);
    };
    const Json model = json("nfscale.model"), preprocessing = json("nfscale.preprocessing"),
               classes = json("nfscale.classes");
    for (const auto& [key, value] : model.members()) set_key(config, "model." + key, value, where);
    for (const char* key : {"mean", "std", "eval_crop", "exif"})
      set_key(config, std::string("data.") + key, preprocessing.at(key), where);
    for (const Json& name : classes.items()) t.class_names.push_back(name.as_string());
    t.eval_size = preprocessing.at("eval_size").as_int();
    t.image_size = preprocessing.at("image_size").as_int();
    sides = sides_of(t.image_size);
    t.precision = file.meta("nfscale.precision");
    t.loss = file.meta("nfscale.loss");
    t.ema = file.meta("nfscale.ema") == "on";
  }
  t.data = config.data;
  t.config = config.model;
  t.model = make_model(make_arch(config.model, config.model.classes, sides));
  load_weights(t.model, file);
  return t;
}

void require_finite(const TrainedModel& trained) {
  const Model& model = trained.model;
  for (size_t i = 0; i < model.weights.size(); ++i)
    if (!model.weights[i].detach().isfinite().all().item<bool>())
      fail(Exit::usage, "{}: {} holds numbers that are not finite", trained.file.string(),
           model.params[i].name);
}

}  // namespace nfscale
