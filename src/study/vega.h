// The script that draws figures (Vega, Vega-Lite, Vega-Embed; BSD-3), built into the program. It
// sets window.vegaEmbed and is safe inside a <script> element. Empty where the program was built
// without it.
#pragma once

#include <string_view>

namespace nfscale {

std::string_view vega_script();
std::string_view vega_license();

}  // namespace nfscale
