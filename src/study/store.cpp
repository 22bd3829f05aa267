#include "study/store.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/hash.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"

namespace nfscale {
namespace {

// Nothing where the line is no whole record.
std::optional<Json> parse_record(std::string_view line) {
  const size_t first = line.find('\t');
  if (first == std::string_view::npos) return std::nullopt;
  const size_t second = line.find('\t', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const std::string_view json = line.substr(second + 1);
  if (parse_int(line.substr(0, first)) != static_cast<int64_t>(json.size())) return std::nullopt;
  if (line.substr(first + 1, second - first - 1) != fmt::format("{:016x}", hash64(json)))
    return std::nullopt;
  try {
    return parse_json(json, "record");
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string text_of(const Json& record, std::string_view key) {
  const Json* value = record.find(key);
  return value && value->is_string() ? value->as_string() : "";
}

// NUMBER-NONCE.log
int number_of(const Path& log) {
  const std::string name = log.filename().string();
  const auto number = parse_int(name.substr(0, name.find('-')));
  return number && *number >= 0 && *number < 1'000'000'000 ? static_cast<int>(*number) : 0;
}

// In the order in which they were begun.
std::vector<Path> logs_of(const Path& folder) {
  std::vector<Path> logs;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".log") logs.push_back(entry.path());
  std::sort(logs.begin(), logs.end(), [](const Path& a, const Path& b) {
    return std::pair(number_of(a), a) < std::pair(number_of(b), b);
  });
  return logs;
}

// The records of a log; the first bad line that is not the last, if any, and what is wrong with it.
struct LogContents {
  std::vector<Json> records;
  bool torn = false;
  size_t damaged_line = 0;
  std::string fault;
};

// What a record of another kind of values than ours does to the state; empty if nothing.
std::string fault_of(const Json& record) {
  StoreState state;
  try {
    apply(record, state);
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

LogContents read_log(const Path& file) {
  LogContents contents;
  const std::string text = read_file(file);
  std::string_view rest = text;
  for (size_t line = 1; !rest.empty(); ++line) {
    const size_t end = rest.find('\n');
    const bool last = end == std::string_view::npos || end + 1 == rest.size();
    auto record = parse_record(rest.substr(0, end));
    const std::string fault = record ? fault_of(*record) : "not a whole record";
    if (fault.empty()) {
      contents.records.push_back(std::move(*record));
    } else if (last && !record) {
      contents.torn = true;
    } else if (!contents.damaged_line) {
      contents.damaged_line = line;
      contents.fault = fault;
    }
    if (last) break;
    rest.remove_prefix(end + 1);
  }
  return contents;
}

double seconds_of(const Json& record, std::string_view key) {
  const Json* value = record.find(key);
  return value && value->is_number() ? value->as_double() : 0;
}

void apply_sealed(const Json& record, StoreState& state) {
  const Json* prediction = record.find("prediction");
  if (!prediction || !prediction->is_object()) return;
  const std::string target = text_of(*prediction, "target");
  SealedRecord sealed = {*prediction, text_of(record, "seal")};
  for (const auto& [id, trial] : state.trials)
    sealed.late |= text_of(trial.chosen, "cell") == target;
  state.sealed.push_back(std::move(sealed));
}

}  // namespace

void apply(const Json& record, StoreState& state) {
  ++state.records;
  const std::string kind = text_of(record, "kind"), id = text_of(record, "run_id");
  if (kind == "step_time") {
    const Json *key = record.find("key"), *seconds = record.find("seconds");
    if (key && seconds) state.step_times.try_emplace(key->as_string(), seconds->as_double());
    return;
  }
  if (kind == "sealed") return apply_sealed(record, state);
  if (kind == "candidates") {
    const Json* list = record.find("candidates");
    if (list && list->is_array()) state.candidates = *list;
    return;
  }
  if (id.empty()) return;
  TrialRecord& trial = state.trials[id];
  if (kind == "chosen") {
    trial.chosen = record;
    trial.state.clear();
    trial.final = false;
    trial.failures = 0;
    trial.reason.clear();
  } else if (kind == "submitting") {
    trial.state = kind;
    ++trial.starts;
    trial.submitted = text_of(record, "time");
    trial.handle = text_of(record, "handle");
    if (trial.started.empty()) trial.started = trial.submitted;
  } else if (kind == "submitted") {
    trial.state = kind;
    trial.handle = text_of(record, "handle");
  } else if (kind == "observed" || kind == "finished") {
    trial.state = text_of(record, "state");
    trial.reason = text_of(record, "reason");
    if (kind == "finished") trial.finished = text_of(record, "time");
  } else if (kind == "failed" || kind == "lost") {
    trial.state = kind;
    ++trial.failures;
    trial.failed_s += seconds_of(record, "wall_s");
    trial.reason = text_of(record, "reason");
    const Json* final = record.find("final");
    trial.final = final && final->as_bool();
  }
}

std::string record_line(const Json& record) {
  const std::string json = record.dump();
  const std::string line = fmt::format("{}\t{:016x}\t{}", json.size(), hash64(json), json);
  NFSCALE_CHECK(parse_record(line));  // what cannot be read again must not be written
  return line + "\n";
}

StoreContents read_store(const Path& folder) {
  StoreContents contents;
  for (const Path& file : logs_of(folder)) {
    const LogContents log = read_log(file);
    if (log.damaged_line)
      fail(Exit::damaged,
           "{}:{}: a damaged record ({}); `nfscale study status --repair` moves the file aside and "
           "goes on from the run directories",
           file.string(), log.damaged_line, log.fault);
    if (log.torn) contents.torn.push_back(file.filename().string());
    for (const Json& record : log.records) apply(record, contents.state);
    contents.last_number = std::max(contents.last_number, number_of(file));
  }
  return contents;
}

namespace {
std::string study_in(const Path& out) {
  return fmt::format("the study {}", out.string());
}
}  // namespace

std::vector<std::string> repair_store(const Path& out) {
  const Path folder = out / "store";
  std::vector<std::string> moved;
  if (!is_there(folder)) return moved;
  const Lease lease(folder / "controller", study_in(out));
  for (const Path& file : logs_of(folder)) {
    if (!read_log(file).damaged_line) continue;
    Path aside = file;
    aside += ".damaged";
    files().rename(file, aside);
    moved.push_back(file.filename().string());
  }
  return moved;
}

namespace {
Path made(const Path& folder) {
  files().make_folder(folder);
  return folder;
}
}  // namespace

Store::Store(const Path& out)
    : folder_(made(out / "store")),
      lease_(folder_ / "controller", study_in(out)),
      contents_(read_store(folder_)) {
  for (const std::string& file : contents_.torn)
    say("store/{}: the last record was cut off and is ignored", file);
}

void Store::append(std::string_view kind, const Json& record) {
  lease_.check();
  if (!log_) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    const std::string nonce =
        fmt::format("{:016x}",
                    hash64(fmt::format("{} {} {} {}", host_name(), ::getpid(), now, utc_text())))
            .substr(0, 8);
    log_ = AppendLog(folder_ / fmt::format("{:04}-{}.log", contents_.last_number + 1, nonce));
    files().sync_folder(folder_);
  }
  Json whole = Json::object({{"kind", kind}, {"time", utc_text()}});
  for (const auto& [key, value] : record.members()) whole.set(key, value);
  log_.append(record_line(whole), true);
  apply(whole, contents_.state);
}

std::optional<std::string> live_controller(const Path& out) {
  return lease_holder(out / "store" / "controller");
}

}  // namespace nfscale
