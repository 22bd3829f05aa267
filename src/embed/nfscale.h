// Classes of pictures in a program of your own: find_package(nfscale), link nfscale::embed
// (examples/embed). Nothing else of nfscale and nothing of libtorch has to be on the include path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace nfscale {

struct Guess {
  std::string name;  // of the class; its number where the model has no names
  int64_t index = 0;
  double probability = 0;
};

// One call at a time for each object; several objects may be used by several threads.
class Classifier {
 public:
  // A run directory, a checkpoint folder or a .safetensors file, also timm's. `threads`: 0 for all
  // cores, of the process. Throws std::runtime_error with one line that says what is wrong.
  explicit Classifier(const std::string& checkpoint, int threads = 0);
  ~Classifier();
  Classifier(Classifier&&) noexcept;
  Classifier& operator=(Classifier&&) noexcept;

  // The bytes of a JPEG, PNG or WebP, prepared as in the model's evaluation; at most `top` guesses,
  // the likeliest first. std::runtime_error where the picture cannot be decoded.
  std::vector<Guess> classify(std::string_view encoded, size_t top = 5);
  // The same of a file.
  std::vector<Guess> classify_file(const std::string& path, size_t top = 5);

  const std::vector<std::string>& classes() const;  // empty where the model has no names
  int64_t image_size() const;                       // pixels of a side that the model sees

 private:
  void load(const std::string& checkpoint);
  std::vector<Guess> guesses_of(std::string_view encoded, size_t top);

  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace nfscale
