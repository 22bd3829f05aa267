#include "data/decode_format.h"
#include "data/spec.h"
namespace nfscale {
std::shared_ptr<Source> open_wds(Spec&, const Report&) {
  not_supported("wds:");
}
std::shared_ptr<Source> open_folder(Spec&, const Report&) {
  not_supported("folder:");
}
std::shared_ptr<Source> open_cifar(Spec&, const Report&) {
  not_supported("cifar:");
}
std::string decode_jpeg(std::string_view, const DecodeOptions&, Picture&, int&) {
  return "unsupported";
}
std::string decode_png(std::string_view, const DecodeOptions&, Picture&, int&) {
  return "unsupported";
}
std::string decode_webp(std::string_view, const DecodeOptions&, Picture&, int&) {
  return "unsupported";
}
}  // namespace nfscale
