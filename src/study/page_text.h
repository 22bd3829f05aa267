// The style and the script of a study's page.
#pragma once

namespace nfscale {

extern const char* const kPageStyle;
// Needs `figures`, specifications by name, and window.vegaEmbed for drawings.
extern const char* const kPageScript;

}  // namespace nfscale
