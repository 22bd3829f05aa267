// classify CHECKPOINT PICTURE...: what a model that nfscale trained takes each picture for.
//
//   cmake --install build/release --prefix installed
//   cmake -S examples/embed -B build/embed -DCMAKE_PREFIX_PATH=$PWD/installed
//   cmake --build build/embed
//   build/embed/classify runs/first photos/cat/1.jpg
#include <nfscale.h>

#include <cstdio>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "use: classify CHECKPOINT PICTURE...\n");
    return 2;
  }
  try {
    nfscale::Classifier classifier(argv[1]);
    for (int i = 2; i < argc; ++i) {
      std::printf("%s:", argv[i]);
      for (const nfscale::Guess& guess : classifier.classify_file(argv[i], 3))
        std::printf("  %s %.4f", guess.name.c_str(), guess.probability);
      std::printf("\n");
    }
  } catch (const std::runtime_error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
