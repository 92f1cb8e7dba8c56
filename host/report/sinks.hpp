// One function per format, behind render(). The list in render.cpp is the only one to extend.
#pragma once

#include <span>
#include <string>

#include "cupel/report/report.hpp"

namespace cupel {

std::string render_document(const EvalReport& report, const ReportStyle& style);
std::string render_lines(const EvalReport& report, const ReportStyle& style);
std::string render_csv(const EvalReport& report, const ReportStyle& style);
std::string render_table(const EvalReport& report, const ReportStyle& style);
std::string render_markdown(const EvalReport& report, const ReportStyle& style);

}  // namespace cupel
