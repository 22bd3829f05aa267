#include "train/parity.h"

#include <ATen/ops/from_blob.h>

#include <cmath>

#include "config/schedule.h"
#include "model/vit.h"
#include "train/parity_case.h"

namespace nfscale {
namespace {

// Position embeddings at other sizes, by both methods.
Results run_posemb(const SafetensorsFile& file) {
  const auto meta = [&](const char* key) {
    return parse_json(file.meta(key), file.path.string() + ": " + key);
  };
  const auto sides = [](const Json& pair) {
    return Sides{pair.items().at(0).as_int(), pair.items().at(1).as_int()};
  };
  std::vector<double> numbers = file.numbers("input/pos_embed");
  const at::Tensor embedding =
      at::from_blob(numbers.data(), file.find("input/pos_embed")->shape, at::kDouble);
  Results r;
  const Json sizes = meta("to");
  for (const Json& to : sizes.items())
    for (const auto& [method, numerics] : {std::pair("bicubic-antialias", Numerics::timm),
                                           std::pair("bilinear-corners", Numerics::deepmind)})
      r[fmt::format("out/{}/{}x{}", method, sides(to)[0], sides(to)[1])] =
          doubles(resize_position_embedding(embedding, meta("prefix").as_int(), sides(meta("from")),
                                            sides(to), numerics));
  return r;
}

Results run_schedule(const SafetensorsFile& file) {
  Results r;
  const Json schedules = parse_json(file.meta("schedules"), file.path.string() + ": schedules");
  for (const Json& s : schedules.items()) {
    const auto number = [&](const char* key) { return s.find(key) ? s.at(key).as_double() : 0; };
    const Schedule schedule{.kind = s.at("kind").as_string(),
                            .peak = number("lr"),
                            .warmup_steps = number("warmup"),
                            .total_steps = number("total_steps"),
                            .final_rate = 0,
                            .cooldown_steps = number("cooldown"),
                            .timescale = number("timescale")};
    const std::string place = std::to_string(&s - schedules.items().data());
    const TensorView* steps = file.find("input/steps/" + place);
    if (!steps || steps->dtype != Dtype::i64)
      fail(Exit::usage, "{}: input/steps/{}: expected I64", file.path.string(), place);
    for (int64_t i = 0; i < steps->count(); ++i) {
      int64_t step;
      std::memcpy(&step, steps->bytes.data() + i * 8, 8);
      r["out/lr/" + place].push_back(learning_rate(schedule, static_cast<uint64_t>(step)));
    }
  }
  return r;
}

std::string group_of(const std::string& name, bool digest) {
  const size_t slash = name.find('/');
  const std::string first = name.substr(0, slash), rest = name.substr(slash + 1);
  if (first.starts_with("step")) return "step_" + rest.substr(0, rest.find('/'));
  return digest && first == "digest" && rest.find("norm") != std::string::npos ? "digest_grad"
                                                                               : first;
}

double error_of(const std::vector<double>& a, const std::vector<double>& b, double floor,
                bool entry_by_entry) {
  double most = 0, difference = 0, scale = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    difference = std::max(difference, std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(b[i]));
    most = std::max(most, std::abs(a[i] - b[i]) / std::max(std::abs(b[i]), floor));
  }
  return entry_by_entry ? most : difference / std::max(scale, floor);
}

// Rows of the first axis that the file leaves out: key biases change no output, so their updates
// are rounding noise blown up.
void leave_out(const Json& skip, const std::string& name, std::vector<double>& numbers,
               int64_t rows) {
  const size_t slash = name.find('/', name.find('/') + 1);
  if (!name.starts_with("step") || slash == std::string::npos) return;
  const std::string parameter = name.substr(slash + 1);
  if (parameter.ends_with("/k") && skip.find(parameter.substr(0, parameter.size() - 2)))
    return numbers.clear();
  const Json* span = skip.find(parameter);
  if (!span) return;
  const auto row = std::ssize(numbers) / rows;
  numbers.erase(numbers.begin() + span->items().at(0).as_int() * row,
                numbers.begin() + span->items().at(1).as_int() * row);
}

void compare(const SafetensorsFile& file, const Results& results, double most_tolerance,
             ParityResult& out) {
  const auto meta = [&](const char* key) {
    return file.metadata.contains(key) ? parse_json(file.meta(key), file.path.string() + ": " + key)
                                       : Json::object();
  };
  const Json tolerance = meta("tolerance"), floors = meta("floor"), skip = meta("skip");
  double worst = -1;
  for (const TensorView& stored : file.tensors) {
    if (stored.name.starts_with("input/") || stored.name.starts_with("param/") ||
        stored.name.starts_with("mask/"))
      continue;
    const auto found = results.find(stored.name);
    if (found == results.end() || found->second.size() != static_cast<size_t>(stored.count()))
      fail(Exit::defect, "{}: nothing computed to compare with {}", file.path.string(),
           stored.name);
    const std::string group = group_of(stored.name, out.kind == "digest");
    const Json* floor = floors.find(group);
    const double allowed = std::min(tolerance.at(group).as_double(), most_tolerance);
    std::vector<double> own = found->second, expected = file.numbers(stored.name);
    if (!stored.shape.empty()) {
      leave_out(skip, stored.name, own, stored.shape[0]);
      leave_out(skip, stored.name, expected, stored.shape[0]);
    }
    const double error =
        error_of(own, expected, floor ? floor->as_double() : 0, group == "digest_grad");
    ++out.compared;
    out.ok = out.ok && error <= allowed;
    if (error / allowed > worst) {
      worst = error / allowed;
      out.worst = {stored.name, error, allowed};
    }
  }
}

}  // namespace

ParityResult run_parity(const Path& path, bool float64, const std::string& numerics) {
  const SafetensorsFile file = read_safetensors(path);
  const auto format = file.metadata.find("format");
  if (format == file.metadata.end() || format->second != "nfscale-golden/1")
    fail(Exit::usage, "{}: format: expected nfscale-golden/1, found {}", path.string(),
         format == file.metadata.end() ? "none" : format->second);
  ParityResult out;
  out.name = file.meta("name");
  out.kind = file.meta("case");
  const double most_tolerance = float64 ? 1e-6 : INFINITY;
  if (out.kind == "posemb" || out.kind == "schedule") {
    compare(file, out.kind == "posemb" ? run_posemb(file) : run_schedule(file), most_tolerance,
            out);
    return out;
  }
  if (out.kind != "train" && out.kind != "digest" && out.kind != "sam")
    not_supported("parity of the case \"" + out.kind + "\"");
  const Case c = open_case(file, float64 ? at::kDouble : at::kFloat, numerics);
  out.numerics = c.model.arch.numerics;
  compare(file, c.model.arch.is_vit() ? run_vit_case(c) : run_nfnet_case(c), most_tolerance, out);
  return out;
}

}  // namespace nfscale
