// The tables of a study's page.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "study/report.h"

namespace nfscale {

// Fields are HTML; a row may have an id that links lead to.
struct PageTable {
  std::vector<std::string> header;
  struct Row {
    std::vector<std::string> fields;
    std::string id = {};
  };
  std::vector<Row> rows;

  void add(std::vector<std::string> fields, std::string id = {});
};

std::string html_text(std::string_view text);
// A link to an id of the page; both are text.
std::string link_to(const std::string& id, const std::string& text);
std::string html_table(const PageTable& table);

PageTable figure_rows(const Figure& figure);
PageTable cell_table(const Grid& grid, const StudyView& view, const StudyResults& results);
PageTable trial_table(const Csv& trials);
PageTable finetuned_rows(const Csv& finetuned);
PageTable optima_table(const Conclusions& conclusions);
PageTable prediction_table(const StudyResults& results);
// What was spent, by what came of it.
PageTable cost_table(const StudyView& view, const Csv& trials);
PageTable identity_table(const Study& study, const Grid& grid, const StudyResults& results);

}  // namespace nfscale
