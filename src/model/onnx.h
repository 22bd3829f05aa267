// A trained model as an ONNX graph of plain operations: standardised weights, gains and the factors
// of activations folded into convolutions. Opset 17; the batch is free, and the sides of pictures
// are for NFNets.
#pragma once

#include <map>
#include <string>

#include "model/model.h"

namespace nfscale {

struct OnnxFile {
  std::string model;  // the bytes of the file
  // Of its numbers, to be written beside it under the name that was given; empty where they are in
  // the file.
  std::string data;
};

struct OnnxOptions {
  int64_t size = 224;                                // side of pictures, of a Vision Transformer
  std::map<std::string, std::string> metadata = {};  // classes, preprocessing
  std::string data_name = "model.onnx.data";         // of the file beside it
  size_t most_bytes = size_t{1900} << 20;  // beyond them numbers go there: protobuf ends at 2 GB
};

// Input "images" [N, C, H, W], normalised; output "logits" [N, classes].
OnnxFile onnx_model(const Model& model, const OnnxOptions& options);

}  // namespace nfscale
