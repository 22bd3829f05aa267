// Where examples come from: a numbered list of (key, label, picture), read in any order.
//
// A specification is SCHEME:PATH?key=value&...; the schemes are
//   wds:     tar shards (WebDataset); brace ranges, globs, or @FILE with a list
//   folder:  DIR/CLASS/**/picture
//   mds:     shards of MosaicML's Streaming, the folder of index.json
//   idx:     files of the MNIST family; ?split=train|test
//   cifar:   the binary files of CIFAR-10 and CIFAR-100; ?split=train|test
//   shapes:  drawn pictures, see shapes.h
//   fractal: attractors of random maps, see fractal.h
// Any source takes ?block= and ?window= (order.h), and one without splits of its own takes
// ?split=train|heldout&share=0.05, which divides it by a hash of the key.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "data/picture.h"

namespace nfscale {

struct Example {
  std::string key;  // bytes, unique within a file or folder
  int64_t label = 0;
  std::string bytes;  // the encoded picture; unused where `picture` is there
  std::optional<Picture> picture;
  std::string file;     // for messages: the shard or file,
  uint64_t offset = 0;  // and where in it the picture begins
};

// What is wrong with a source, found while it was indexed.
struct Problem {
  std::string file, key, problem;
  uint64_t offset = 0;
  std::string text() const;  // one line
};

class Source {
 public:
  virtual ~Source() = default;
  virtual uint64_t size() const = 0;

  // Thread-safe. Exit::system where the system refuses, Exit::usage where the data is no longer
  // what was indexed. A damaged picture is no error here: its bytes are what they are.
  virtual Example read(uint64_t i) const = 0;

  // Known without reading a picture.
  virtual std::string key(uint64_t i) const = 0;
  virtual int64_t label(uint64_t i) const = 0;
  virtual std::optional<uint64_t> find(std::string_view key) const;  // the first of that key

  // XXH3-128 over key hash, label and length of every example in order, as 32 hexadecimal digits:
  // data may move without becoming other data.
  virtual std::string fingerprint() const = 0;

  const std::vector<std::string>& classes() const { return classes_; }
  bool named() const { return named_; }  // false: classes() are the numbers "0", "1", ...

  // Classes of a folder without a picture: fine in a held-out set, refused in training.
  const std::vector<std::string>& empty_classes() const { return empty_classes_; }
  // Blocks order: examples of a block and blocks of a window.
  uint64_t block() const { return block_; }
  uint64_t window() const { return window_; }
  void set_order(uint64_t block, uint64_t window) {
    block_ = block;
    window_ = window;
  }

 protected:
  std::vector<std::string> classes_, empty_classes_;
  bool named_ = false;
  uint64_t block_ = 1024, window_ = 32;
};

// Several specifications are one set, numbered one after another. Exit::usage for everything that
// is wrong with a specification or with the data, naming file, key and offset; a set without an
// example is refused.
std::shared_ptr<const Source> open_source(const std::vector<std::string>& specs);

// The same, but what is wrong with the data is listed and left out. Exit::usage where nothing at
// all can be read.
std::shared_ptr<const Source> open_source(const std::vector<std::string>& specs,
                                          std::vector<Problem>& problems);

// Exit::usage naming a class that has no picture to be learned from.
void require_training_set(const Source& source);

// map[label of `source`] = the class of that name in `names`; Exit::usage with the class that is
// not there. Where either side has numbers for names, the number is the class.
std::vector<int64_t> match_classes(const Source& source, const std::vector<std::string>& names);

}  // namespace nfscale
