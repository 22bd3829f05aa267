// Averages of the weights of several runs of one model ("model soups", Wortsman et al., arXiv
// 2203.05482): of all, or of those that help.
#pragma once

#include <functional>
#include <vector>

#include "train/weights_file.h"

namespace nfscale {

// The mean of the weights; everything else is that of the first. Exit::usage for checkpoints of
// another architecture, other classes or another preparation of pictures, with the first that
// differs.
TrainedModel uniform_soup(const std::vector<Path>& checkpoints);

struct SoupStep {
  Path checkpoint;
  double alone = 0;  // its own loss
  double with = 0;   // that of the soup with it
  bool taken = false;
};
struct GreedySoup {
  TrainedModel model;
  double loss = 0;
  std::vector<SoupStep> steps;  // best first
};

// Begins with the best by `loss` and takes each following one, best first, where the soup with it
// has no higher loss.
GreedySoup greedy_soup(const std::vector<Path>& checkpoints,
                       const std::function<double(const TrainedModel&)>& loss);

}  // namespace nfscale
