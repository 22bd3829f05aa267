// data: what a source holds, what is wrong with it, and in which order training takes it.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <mutex>
#include <thread>

#include "base/files.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/command.h"
#include "config/load.h"
#include "data/decode.h"
#include "data/loader.h"
#include "data/sheet.h"
#include "data/show.h"
#include "data/source.h"

namespace nfscale {
namespace {

// Class names in order, each with its number of examples.
std::vector<std::pair<std::string, int64_t>> count_classes(const Source& source) {
  std::vector<std::pair<std::string, int64_t>> counts;
  for (const std::string& name : source.classes()) counts.emplace_back(printable(name), 0);
  for (uint64_t i = 0; i < source.size(); ++i)
    ++counts[static_cast<size_t>(source.label(i))].second;
  return counts;
}

Json classes_json(const std::vector<std::pair<std::string, int64_t>>& counts) {
  Json classes = Json::object();
  for (const auto& [name, count] : counts) classes.set(name, count);
  return classes;
}

std::string summary(const Source& source,
                    const std::vector<std::pair<std::string, int64_t>>& counts) {
  int64_t least = INT64_MAX, most = 0;
  for (const auto& [name, count] : counts) {
    least = std::min(least, count);
    most = std::max(most, count);
  }
  return fmt::format("{} examples, {} classes of {} to {} examples\n", source.size(), counts.size(),
                     least, most);
}

void run_index(const Args& args) {
  const auto source = open_source(args.all("SPEC"));
  const auto counts = count_classes(*source);
  const std::string fingerprint = source->fingerprint();
  print_result(args,
               Json::object({{"examples", source->size()},
                             {"classes", classes_json(counts)},
                             {"fingerprint", fingerprint}}),
               summary(*source, counts) + fmt::format("fingerprint {}\n", fingerprint));
}

// Decodes every picture; what is wrong, in the order of the examples.
std::vector<Problem> decode_all(const Source& source, int threads) {
  std::mutex mutex;
  std::map<uint64_t, Problem> found;
  std::exception_ptr error;
  std::atomic<uint64_t> next = 0, done = 0;
  const auto work = [&] {
    try {
      constexpr uint64_t chunk = 16;
      while (!stop_requested()) {
        const uint64_t begin = next.fetch_add(chunk);
        if (begin >= source.size()) return;
        const uint64_t end = std::min(source.size(), begin + chunk);
        for (uint64_t i = begin; i < end; ++i) {
          const Example e = source.read(i);
          if (e.picture) continue;
          if (Decoded d = decode(e.bytes); !d.broken.empty()) {
            const std::lock_guard lock(mutex);
            found[i] = {e.file, e.key, std::move(d.broken), e.offset};
          }
        }
        done += end - begin;
        live(fmt::format("checking pictures {}/{}", done.load(), source.size()));
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
      next = source.size();
    }
  };
  {
    std::vector<std::jthread> pool;
    for (int t = 0; t < threads; ++t) pool.emplace_back(work);
  }
  end_live();
  if (error) std::rethrow_exception(error);
  if (stop_requested()) fail(Exit::preempted, "stopped before every picture was checked");
  std::vector<Problem> problems;
  for (auto& [i, problem] : found) problems.push_back(std::move(problem));
  return problems;
}

void run_check(const Args& args) {
  catch_stop_signals();
  std::vector<Problem> problems;
  const auto source = open_source(args.all("SPEC"), problems);
  const size_t all = source->size() + problems.size();  // what is damaged so far is no example
  for (Problem& p : decode_all(*source, args.threads())) problems.push_back(std::move(p));
  const auto counts = count_classes(*source);
  Json list = Json::array();
  std::string text = summary(*source, counts);
  for (const Problem& p : problems) {
    list.push(Json::object({{"file", printable(p.file)},
                            {"key", printable(p.key)},
                            {"offset", p.offset},
                            {"problem", p.problem}}));
    text += p.text() + "\n";
  }
  print_result(args,
               Json::object({{"ok", problems.empty()},
                             {"examples", source->size()},
                             {"classes", classes_json(counts)},
                             {"problems", list}}),
               text);
  if (!problems.empty())
    fail(Exit::check, "{} of {} examples or files are damaged", problems.size(), all);
}

// "A..B", B left out.
std::pair<uint64_t, uint64_t> slot_range(const std::string& text) {
  constexpr uint64_t most = 10'000'000;
  const size_t dots = text.find("..");
  const auto number = [](std::string_view digits) -> std::optional<uint64_t> {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
    return value;
  };
  const auto begin = dots == std::string::npos ? std::nullopt : number(text.substr(0, dots));
  const auto end = dots == std::string::npos ? std::nullopt : number(text.substr(dots + 2));
  if (!begin || !end || *end < *begin || *end >> 62)
    fail(Exit::usage, "--slot: expected A..B with A not above B, B left out, found {}", text);
  if (*end - *begin > most)
    fail(Exit::usage, "--slot: {} slots, {} are allowed at once", *end - *begin, most);
  return {*begin, *end};
}

void run_order(const Args& args) {
  const Config config = load_config(args.path("--config"), args.all("--set")).config;
  const auto source = open_source(config.data.train);
  const auto repeat = static_cast<uint32_t>(config.data.augment.repeat);
  Order order = order_of(*source, training_options(config, 1, 0));
  if (!args.has("--slot") && !args.has("--key"))
    fail(Exit::usage, "data order: give --slot A..B or --key NAME");

  std::vector<uint64_t> slots;
  if (args.has("--key")) {
    const auto example = source->find(args.text("--key"));
    if (!example)
      fail(Exit::usage, "--key: {} is not a key of the data", printable(args.text("--key")));
    const uint64_t slots_of_epoch = source->size() * repeat;
    const uint64_t total = total_slots(
        config.train.duration,
        {.examples = slots_of_epoch, .batch = static_cast<uint64_t>(config.train.batch)});
    for (uint64_t epoch = 0; epoch * slots_of_epoch < total; ++epoch)
      for (uint32_t copy = 0; copy < repeat; ++copy)
        slots.push_back(order.slot_of({epoch, *example, copy}));
    std::erase_if(slots, [&](uint64_t slot) { return slot >= total; });
  }
  if (args.has("--slot")) {
    const auto [begin, end] = slot_range(args.text("--slot"));
    if (args.has("--key"))
      std::erase_if(slots,
                    [&, first = begin, last = end](uint64_t s) { return s < first || s >= last; });
    else
      for (uint64_t s = begin; s < end; ++s) slots.push_back(s);
  }

  Json rows = Json::array();
  std::vector<std::vector<std::string>> table = {{"slot", "epoch", "example", "copy", "key"}};
  for (const uint64_t slot : slots) {
    const Slot s = order.at(slot);
    if (args.json())
      rows.push(Json::array({slot, s.epoch, s.example, s.copy}));
    else
      table.push_back({std::to_string(slot), std::to_string(s.epoch), std::to_string(s.example),
                       std::to_string(s.copy), printable(source->key(s.example))});
  }
  print_result(args, Json::object({{"rows", rows}}), args.json() ? "" : text_table(table));
}

Json box_json(const Box& b) {
  return Json::array({b.x, b.y, b.width, b.height});
}

Json shown_json(const ShownSlot& s) {
  Json operations = Json::array();
  for (const AugmentationDraw& d : s.draw.operations) operations.push(augmentation_text(d));
  Json row = Json::object({{"slot", s.slot},
                           {"epoch", s.of.epoch},
                           {"example", s.of.example},
                           {"copy", s.of.copy},
                           {"key", s.key},
                           {"class", s.label},
                           {"picture", Json::array({s.width, s.height})},
                           {"crop", s.draw.box ? box_json(*s.draw.box) : Json()},
                           {"mirrored", s.draw.mirrored},
                           {"operations", operations},
                           {"broken", s.broken.empty() ? Json() : Json(s.broken)}});
  if (!s.partner) return row.set("partner", nullptr);
  const Mix& mix = s.partner->mix;
  return row.set("partner", Json::object({{"slot", s.partner->slot},
                                          {"key", s.partner->key},
                                          {"class", s.partner->label},
                                          {"share", 1 - mix.share},
                                          {"box", mix.paste ? box_json(mix.box) : Json()}}));
}

void run_show(const Args& args) {
  constexpr uint64_t kMost = 1024;
  Config config = load_config(args.path("--config"), args.all("--set")).config;
  resolve(config);
  const auto [begin, end] = slot_range(args.text("--slot", "0..16"));
  if (begin == end || end - begin > kMost)
    fail(Exit::usage, "--slot: 1 to {} slots fit on a sheet, found {}", kMost, end - begin);
  if (config.data.train.empty()) fail(Exit::usage, "data.train is not set");
  const std::vector<ShownSlot> slots =
      show_slots(open_source(config.data.train), config, begin, end);
  std::vector<CaptionedPicture> pictures;
  Json rows = Json::array();
  for (const ShownSlot& s : slots) {
    pictures.push_back({s.picture, caption_of(s)});
    rows.push(shown_json(s));
  }
  const Path out = *args.path("--out");
  write_file(out, png_bytes(contact_sheet(pictures)));
  print_result(args, Json::object({{"rows", rows}, {"out", out.string()}}), out.string() + "\n");
}

}  // namespace

std::vector<Command> data_commands() {
  using Times = Option::Times;
  const Option specs = {"SPEC", "", "sources; several are one set", Times::some};
  return {
      {"data index",
       "reads the directory of a source: counts and fingerprint; refuses damage",
       "nfscale data index 'wds:shards/{000..009}.tar'",
       {specs},
       run_index},
      {"data check",
       "decodes every picture and lists what is wrong; exit 5 if anything is",
       "nfscale data check folder:photos",
       {specs},
       run_check},
      {"data order",
       "which example each slot of a training run holds",
       "nfscale data order --config run.toml --slot 0..10",
       {{"--config", "FILE", "configuration of the run"},
        {"--set", "K=V", "another value for a key", Times::any},
        {"--slot", "A..B", "slots; B is left out"},
        {"--key", "NAME", "the slots of one example, over the whole run"}},
       run_order},
      {"data dedup",
       "finds training pictures that are also in an evaluation set",
       "nfscale data dedup --train SPEC --against SPEC --out exclude.txt",
       {{"--train", "SPEC", "training source", Times::any},
        {"--against", "SPEC", "evaluation source", Times::any},
        {"--out", "FILE", "list of keys to exclude"}},
       [](const Args&) { not_supported("data dedup"); }},
      {"data show",
       "draws the pictures of some slots as training gets them",
       "nfscale data show --config run.toml --slot 0..64 --out sheet.png",
       {{"--config", "FILE", "configuration of the run"},
        {"--set", "K=V", "another value for a key", Times::any},
        {"--slot", "A..B", "slots; B is left out; 0..16"},
        {"--out", "FILE", "PNG to write", Times::once}},
       run_show},
  };
}

}  // namespace nfscale
