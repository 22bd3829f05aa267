#include "study/vega.h"

// The assembler copies the files into the program; cmake/vega.cmake makes them.
#define EMBED(name, file)                                    \
  asm(".section .rodata\n"                                   \
      ".balign 16\n" #name ":\n.incbin \"" file "\"\n" #name \
      "_end:\n.byte 0\n"                                     \
      ".previous\n")
EMBED(nfscale_vega, NFSCALE_VEGA_FILE);
EMBED(nfscale_vega_license, NFSCALE_VEGA_LICENSE);

extern "C" {
extern const char nfscale_vega[], nfscale_vega_end[];
extern const char nfscale_vega_license[], nfscale_vega_license_end[];
}

namespace nfscale {

std::string_view vega_script() {
  return {nfscale_vega, static_cast<size_t>(nfscale_vega_end - nfscale_vega)};
}

std::string_view vega_license() {
  return {nfscale_vega_license,
          static_cast<size_t>(nfscale_vega_license_end - nfscale_vega_license)};
}

}  // namespace nfscale
