#include "data/show.h"

#include <algorithm>

#include "base/text.h"
#include "data/decode.h"
#include "data/loader.h"

namespace nfscale {
namespace {

// A row of a batch in 8 bits; overshoots of resizing are cut.
Picture picture_of(const Batch& batch, int64_t row, const DataConfig& data) {
  Picture p(batch.size, batch.size);
  const float* values = batch.pixels.data() + row * std::ssize(p.rgb);
  for (size_t i = 0; i < p.rgb.size(); ++i) {
    const size_t c = i % 3;
    const double v = 255 * (static_cast<double>(values[i]) * data.std[c] + data.mean[c]);
    p.rgb[i] = static_cast<uint8_t>(std::clamp(v + 0.5, 0.0, 255.0));
  }
  return p;
}

std::string label_text(const Source& source, int64_t label) {
  return printable(source.classes().at(static_cast<size_t>(label)));
}

Picture source_picture(const Source& source, uint64_t example, const DataConfig& data) {
  Example e = source.read(example);
  return e.picture ? std::move(*e.picture) : decode(e.bytes, DecodeOptions(data)).picture;
}

std::string box_text(const Box& b) {
  return fmt::format("{}x{} at {},{}", b.width, b.height, b.x, b.y);
}

}  // namespace

std::vector<ShownSlot> show_slots(const std::shared_ptr<const Source>& source, const Config& config,
                                  uint64_t begin, uint64_t end) {
  const DataConfig& data = config.data;
  const auto seed = static_cast<uint64_t>(config.train.seed);
  const int64_t size = config.train.image_size;
  LoaderOptions options = training_options(config, 1, end);
  options.rows = static_cast<int64_t>(end - begin);
  Loader loader(source, options, begin);
  const Batch& batch = loader.next();
  Order order = order_of(*source, options);
  std::vector<ShownSlot> all;
  for (int64_t i = 0; i < batch.count; ++i) {
    const Slot of = batch.slots[static_cast<size_t>(i)];
    ShownSlot s = {.slot = begin + static_cast<uint64_t>(i),
                   .of = of,
                   .key = printable(source->key(of.example)),
                   .label = label_text(*source, source->label(of.example)),
                   .draw = {},
                   .partner = {},
                   .broken = {},
                   .picture = picture_of(batch, batch.row_of(i), data)};
    for (const Broken& b : batch.broken)
      if (b.slot == s.slot) s.broken = b.reason;
    if (s.broken.empty() && batch.weights[static_cast<size_t>(batch.row_of(i))] == 0)
      s.broken = "its partner is broken";
    if (s.broken.empty()) {
      const Picture whole = source_picture(*source, of.example, data);
      s.width = whole.width;
      s.height = whole.height;
      s.draw = row_draw(whole, data, seed, of, size);
    }
    const auto repeat = static_cast<uint32_t>(data.augment.repeat);
    if (const auto other =
            mixes(data.augment) ? partner_of(s.slot, source->size(), repeat) : std::nullopt) {
      const uint64_t example = order.at(*other).example;
      s.partner = {.slot = *other,
                   .key = printable(source->key(example)),
                   .label = label_text(*source, source->label(example)),
                   .mix = draw_mix(data.augment, seed, of, size)};
    }
    all.push_back(std::move(s));
  }
  return all;
}

std::vector<std::string> caption_of(const ShownSlot& s) {
  std::vector<std::string> lines = {fmt::format("{} {}", s.slot, s.label), s.key};
  if (!s.broken.empty()) {
    lines.push_back(s.broken);
    return lines;
  }
  lines.push_back(fmt::format("{}{}", s.draw.box ? box_text(*s.draw.box) : "evaluated part",
                              s.draw.mirrored ? ", mirrored" : ""));
  lines.push_back(fmt::format("of {}x{}", s.width, s.height));
  for (const AugmentationDraw& d : s.draw.operations) lines.push_back(augmentation_text(d));
  if (!s.partner) return lines;
  lines.push_back(fmt::format("{:.0f} % of {} {}", 100 * (1 - s.partner->mix.share),
                              s.partner->slot, s.partner->label));
  if (s.partner->mix.paste) lines.push_back("in " + box_text(s.partner->mix.box));
  return lines;
}

}  // namespace nfscale
