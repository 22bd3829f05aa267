// Fine-tuning in a study: its recipes, and the run of a checkpoint with one of them.
#pragma once

#include <string>
#include <vector>

#include "study/study.h"

namespace nfscale {

// The recipes of [finetune]; Exit::usage where one cannot be.
std::vector<Recipe> read_recipes(const Study& study, const Grid& grid);

// A checkpoint with a recipe: "RUN_ID-ftHASH8", with the first digits of the recipe's hash.
Trial finetuning_of(const Grid& grid, const Trial& pretrained, size_t recipe);

// Operations of a fine-tuning of a cell's model; 0 where the pictures are not counted.
double finetuning_flops(const Grid& grid, const Cell& cell, const Recipe& recipe);

// Fine-tunings of a model, and their operations in all.
struct Finetunings {
  size_t cell = 0;  // place of one of its cells
  double trials = 0, flops = 0;
  int64_t memory_bytes = 0;  // of the largest; an estimate
};
// The most that a study can come to: of each family as many as there are candidates, all of its
// largest model.
std::vector<Finetunings> most_finetunings(const Study& study, const Grid& grid);

}  // namespace nfscale
