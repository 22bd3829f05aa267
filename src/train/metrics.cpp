#include "train/metrics.h"

#include <unistd.h>

#include <array>
#include <cstring>
#include <ctime>
#include <protozero/pbf_writer.hpp>

#include "base/process.h"

namespace nfscale {
namespace {

// CRC-32C (Castagnoli), reflected, as the frames of TensorFlow's record files carry it.
uint32_t crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0x82F63B78u : 0);
    }
    return t;
  }();
  uint32_t crc = ~uint32_t{0};
  for (const char c : bytes) crc = table[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ crc >> 8;
  return ~crc;
}

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// length, checksum of the length, data, checksum of the data
std::string framed(const std::string& data) {
  const auto masked = [](std::string_view bytes) {
    const uint32_t crc = crc32c(bytes);
    return raw((crc >> 15 | crc << 17) + 0xA282EAD8u);
  };
  const std::string length = raw(static_cast<uint64_t>(data.size()));
  return length + masked(length) + data + masked(data);
}

// Field numbers of tensorflow.Event (event.proto) and Summary.Value (summary.proto).
std::string event(double time, int64_t step, const Json::Object& numbers) {
  std::string summary, data;
  for (const auto& [tag, value] : numbers) {
    if (!value.is_number() || tag == "step" || tag == "time") continue;
    std::string item;
    protozero::pbf_writer(item).add_string(1, tag);
    protozero::pbf_writer(item).add_float(2, static_cast<float>(value.as_double()));
    protozero::pbf_writer(summary).add_message(1, item);
  }
  protozero::pbf_writer writer(data);
  writer.add_double(1, time);
  writer.add_int64(2, step);
  writer.add_message(5, summary);
  return framed(data);
}

std::string file_version() {
  std::string data;
  protozero::pbf_writer writer(data);
  writer.add_double(1, static_cast<double>(std::time(nullptr)));
  writer.add_string(3, "brain.Event:2");
  return framed(data);
}

// "heldout": {"loss": 1} becomes "heldout/loss": 1.
Json::Object flat(const Json& line) {
  Json::Object members;
  for (const auto& [key, value] : line.members()) {
    if (value.is_object())
      for (const auto& [inner, number] : value.members())
        members.emplace_back(key + "/" + inner, number);
    else
      members.emplace_back(key, value);
  }
  return members;
}

std::string event_of(const Json& line) {
  return event(line.at("time").as_double(), line.at("step").as_int(), flat(line));
}

}  // namespace

Metrics::Metrics(const Path& run, uint64_t step, bool tensorboard) {
  const Path path = run / "metrics.jsonl";
  const std::string text = is_there(path) ? read_file(path, size_t{1} << 34) : "";
  std::string events = file_version();
  size_t kept = 0;
  while (kept < text.size()) {
    const size_t end = text.find('\n', kept);
    if (end == std::string::npos) break;
    try {
      const Json line = parse_json(std::string_view(text).substr(kept, end - kept), path.string());
      if (line.at("step").as_int() > static_cast<int64_t>(step)) break;
      events += event_of(line);
    } catch (const Error&) {
      break;  // what follows a damaged line was written by nobody; the steps come again
    }
    kept = end + 1;
  }
  lines_ = AppendLog(path);
  lines_.cut(kept);
  std::vector<Path> old;
  for (const auto& entry : std::filesystem::directory_iterator(run))
    if (entry.path().filename().string().starts_with("events.out.tfevents."))
      old.push_back(entry.path());
  for (const Path& file : old) files().remove(file);
  if (!tensorboard) return;
  events_ = AppendLog(run / fmt::format("events.out.tfevents.{}.{}.{}", std::time(nullptr),
                                        host_name(), ::getpid()));
  events_.append(events);
}

void Metrics::write(const Json& line) {
  lines_.append(line.dump() + "\n");
  if (events_) events_.append(event_of(line));
}

}  // namespace nfscale
