#include "model/forward.h"

#include "model/nfnet.h"
#include "model/vit.h"

namespace nfscale {

at::Tensor forward(const Model& model, Filters& filters, const at::Tensor& images,
                   const Masks* masks, const Observer& observe) {
  const at::Tensor x =
      images.to(at::TensorOptions(filters.compute), false, false, at::MemoryFormat::ChannelsLast);
  return model.arch.is_vit() ? forward_vit(model, filters, x, masks, observe)
                             : forward_nfnet(model, filters, x, masks, observe);
}

}  // namespace nfscale
