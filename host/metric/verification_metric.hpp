// What metrics of pairs share: options, when there is no value, how thresholds and classes are
// told.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cupel/metric/metric.hpp"

namespace cupel {

/// "l2" and "cosine".
std::string_view domain_name(PairDomain domain);
/// What a threshold of the domain is called: "distance" or "similarity".
std::string_view threshold_name(PairDomain domain);

/// domain and normalize.
std::vector<OptionSpec> pair_options();
/// Both, where they are given.
VerificationQuery pair_query(const Options& options);

/// A metric of MetricScope::kVerification.
class VerificationMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kVerification; }
  /// Options with the domain, and of rows whether they were normalised, as they took effect.
  Detail::Object params(const Options& options, const Evidence& evidence) const override;
};

/// Why there are no classes to compare, or kNone: kEmpty without rows and pairs; kTooFewClasses
/// with fewer than two classes that have a pair of their own and one with another class.
Undefined missing_classes(const VerificationEvidence& evidence);

/// The classes that have utilities and rates, ascending: those of the curves, else those of two
/// rows and more.
std::vector<u32> compared_classes(const VerificationEvidence& evidence);

/// kNotResolved, and in details the smallest false accept rate that the pairs can tell from 0.
MetricValue not_resolved(u128 negative_pairs);

/// classes, and how many were left out.
void describe_classes(const VerificationEvidence& evidence, Detail::Object& details);

/// The label of a class and, of an embedding, how many rows it has.
Detail::Object describe_class(const VerificationEvidence& evidence, u32 cls);

/// The most classes that details name.
inline constexpr std::size_t kShownClasses = 10;

}  // namespace cupel
