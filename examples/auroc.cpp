// Metrics from C++, twice: of rows in memory, and of a dump on disk (the first argument) as
// `cupel eval` would compute them. Errors are values: every Result is asked before it is used.
#include <iostream>
#include <limits>
#include <vector>

#include "cupel/eval/evaluate.hpp"

namespace {

int report(const cupel::Error& error) {
  std::cerr << error.text() << '\n';
  return static_cast<int>(error.code);
}

void print(const cupel::EvalResult& result) {
  std::cout << result.metric << ' ';
  if (result.undefined == cupel::Undefined::kNone) {
    std::cout << result.value << '\n';
  } else {
    std::cout << "undefined: " << cupel::undefined_name(result.undefined) << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::cout.precision(std::numeric_limits<double>::max_digits10);
  const std::vector<float> scores{0.1F, 0.4F, 0.35F, 0.8F, 0.4F};
  const std::vector<cupel::u8> labels{0, 0, 1, 1, 1};

  cupel::TableView table;  // views only: scores and labels outlive it
  table.rows = static_cast<cupel::i64>(scores.size());
  table.scores = cupel::make_view(scores.data(), cupel::DType::kF32, {table.rows});
  table.binary_labels = labels.data();

  const auto metrics = cupel::parse_metrics("auroc,auprc,ks");
  if (!metrics) return report(metrics.error());
  const auto backend = cupel::make_cpu_backend(0);
  const auto results = cupel::evaluate_table(table, *metrics, *backend);
  if (!results) return report(results.error());
  for (const cupel::EvalResult& result : *results) print(result);

  if (argc < 2) return 0;
  cupel::EvalRequest request;
  request.dumps = {argv[1]};
  request.metrics = "auroc";
  const auto evaluated = cupel::evaluate(request);
  if (!evaluated) return report(evaluated.error());
  for (const cupel::EvalResult& result : evaluated->results) print(result);
  return 0;
}
