// What the decoders of the three formats share; for decode*.cpp alone.
#pragma once

#include "data/decode.h"

namespace nfscale {

// Each fills `picture` and `orientation` or returns why not (see Decoded::broken).
std::string decode_jpeg(std::string_view bytes, const DecodeOptions& options, Picture& picture,
                        int& orientation);
std::string decode_png(std::string_view bytes, const DecodeOptions& options, Picture& picture,
                       int& orientation);
std::string decode_webp(std::string_view bytes, const DecodeOptions& options, Picture& picture,
                        int& orientation);

}  // namespace nfscale
