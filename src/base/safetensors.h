// The safetensors file format: https://huggingface.co/docs/safetensors ("Format").
//
// Reading maps the file and checks everything before a tensor is touched: one header without
// doubled keys, every tensor inside the file with the bytes that its shape needs, no overlap, no
// hole.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"

namespace nfscale {

enum class Dtype { f64, f32, f16, bf16, i64, i32, u8 };
size_t dtype_size(Dtype dtype);
std::string dtype_name(Dtype dtype);  // "F32"

struct TensorView {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // row-major, little-endian
  int64_t count() const;
};

struct SafetensorsFile {
  Path path;
  MappedFile mapped;
  std::map<std::string, std::string> metadata;
  std::vector<TensorView> tensors;  // in the order of their bytes

  const TensorView* find(const std::string& name) const;
  // The numbers of a floating-point tensor; Exit::usage if it is missing or of another kind.
  std::vector<double> numbers(const std::string& name) const;
  // Metadata, Exit::usage where the key is missing.
  const std::string& meta(const std::string& key) const;
};

// Exit::usage naming the file and what is wrong.
SafetensorsFile read_safetensors(const Path& path);

// Durable (base/files.h); the order of the tensors is kept. Returns the hash128 of the file's
// bytes.
std::string write_safetensors(const Path& path, const std::map<std::string, std::string>& metadata,
                              const std::vector<TensorView>& tensors);

// "[16, 3, 3, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

// Values of a floating-point tensor of any type, as double.
void to_doubles(const TensorView& tensor, std::span<double> out);

}  // namespace nfscale
