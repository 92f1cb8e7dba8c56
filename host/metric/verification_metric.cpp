#include "metric/verification_metric.hpp"

#include <algorithm>
#include <utility>

#include "metric/exact.hpp"

namespace cupel {

std::string_view domain_name(PairDomain domain) {
  return domain == PairDomain::kL2 ? "l2" : "cosine";
}
std::string_view threshold_name(PairDomain domain) {
  return domain == PairDomain::kL2 ? "distance" : "similarity";
}

std::vector<OptionSpec> pair_options() {
  return {{"domain",
           OptionType::kChoice,
           "",
           {"l2", "cosine"},
           0,
           0,
           "Euclidean distance, or dot product; --domain's when not given, l2 without it"},
          {"normalize",
           OptionType::kFlag,
           "",
           {},
           0,
           0,
           "divide rows by their length; as the command says when not given, else true"}};
}

VerificationQuery pair_query(const Options& options) {
  VerificationQuery query;
  if (options.has("domain")) {
    query.domain = options.text("domain") == "cosine" ? PairDomain::kCosine : PairDomain::kL2;
  }
  if (options.has("normalize")) query.normalize = options.flag("normalize");
  return query;
}

Detail::Object VerificationMetric::params(const Options& options, const Evidence& evidence) const {
  Detail::Object params = options.params();
  if (evidence.verification == nullptr) return params;
  const VerificationEvidence& pairs = *evidence.verification;
  std::erase_if(params, [](const auto& entry) {
    return entry.first == "domain" || entry.first == "normalize";
  });
  Detail::Object all{{"domain", std::string(domain_name(pairs.domain))}};
  if (!pairs.scored) all.emplace_back("normalize", pairs.normalize);
  for (auto& entry : params) all.push_back(std::move(entry));
  return all;
}

std::vector<u32> compared_classes(const VerificationEvidence& evidence) {
  if (evidence.curves != nullptr) return evidence.curves->of;
  std::vector<u32> classes;
  if (evidence.neg == 0) return classes;
  for (std::size_t i = 0; i < evidence.class_rows.size(); ++i) {
    if (evidence.class_rows[i] >= 2) classes.push_back(static_cast<u32>(i));
  }
  return classes;
}

Undefined missing_classes(const VerificationEvidence& evidence) {
  if (evidence.rows == 0 && evidence.pos + evidence.neg == 0) return Undefined::kEmpty;
  return compared_classes(evidence).size() < 2 ? Undefined::kTooFewClasses : Undefined::kNone;
}

MetricValue not_resolved(u128 negative_pairs) {
  MetricValue value = MetricValue::none(Undefined::kNotResolved);
  value.details = {{"negative_pairs", static_cast<u64>(negative_pairs)}};
  if (negative_pairs != 0) {
    value.details.emplace_back("smallest_far", exact::ratio(1, negative_pairs));
  }
  return value;
}

void describe_classes(const VerificationEvidence& evidence, Detail::Object& details) {
  const u64 classes = compared_classes(evidence).size();
  details.emplace_back("classes", classes);
  // Labels of an embedding that a group does not have are no classes of it.
  const u64 all =
      evidence.class_rows.empty()
          ? evidence.class_names.size()
          : static_cast<u64>(std::count_if(evidence.class_rows.begin(), evidence.class_rows.end(),
                                           [](u64 rows) { return rows != 0; }));
  details.emplace_back("classes_left_out", all < classes ? u64{0} : all - classes);
}

Detail::Object describe_class(const VerificationEvidence& evidence, u32 cls) {
  Detail::Object object{{"class", cls < evidence.class_names.size()
                                      ? Detail(evidence.class_names[cls])
                                      : Detail(u64{cls})}};
  if (cls < evidence.class_rows.size()) object.emplace_back("rows", evidence.class_rows[cls]);
  return object;
}

}  // namespace cupel
