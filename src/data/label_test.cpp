#include "data/label.h"

#include <gtest/gtest.h>

namespace nfscale {
namespace {

std::string fault_of(const LabelOrFault& label) {
  const auto* fault = std::get_if<std::string>(&label);
  return fault ? *fault : "";
}

TEST(Label, ANumberOrANameOfTheList) {
  const LabelRule rule({"cat", "dog"}), numbers;
  EXPECT_EQ(label_of_text(" 1\n", rule), LabelOrFault(int64_t{1}));
  EXPECT_EQ(label_of_text("dog", rule), LabelOrFault(int64_t{1}));
  EXPECT_EQ(label_of_text("7", numbers), LabelOrFault(int64_t{7}));
  EXPECT_NE(fault_of(label_of_text("2", rule)).find("not in 0 .. 1"), std::string::npos);
  EXPECT_NE(fault_of(label_of_text("fox", rule)).find("neither a number nor"), std::string::npos);
  EXPECT_NE(fault_of(label_of_text("0 1", rule)).find("several labels"), std::string::npos);
}

// Names that are numbers, sorted as texts: "10" is the third class and the number of another.
TEST(Label, WhatIsANumberAndTheNameOfAnotherClassIsNotGuessed) {
  const LabelRule rule({"0", "1", "10", "2"});
  EXPECT_EQ(label_of_text("0", rule), LabelOrFault(int64_t{0}));
  EXPECT_EQ(label_of_text("1", rule), LabelOrFault(int64_t{1}));
  for (const char* text : {"10", "2"})
    EXPECT_NE(fault_of(label_of_text(text, rule)).find("also the name of class"),
              std::string::npos);
  EXPECT_NE(fault_of(label_of_json(R"({"y": "10"})", "y", rule)).find("also the name of class"),
            std::string::npos);
  EXPECT_EQ(label_of_json(R"({"y": 2})", "y", rule), LabelOrFault(int64_t{2}));
}

}  // namespace
}  // namespace nfscale
