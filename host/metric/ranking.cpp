#include "metric/ranking.hpp"

#include <cmath>
#include <limits>
#include <utility>
#include <variant>

namespace cupel {
namespace {

int scale_of(const RankSummary& s) {
  if (s.weighted) return precision_scale(ClassMass<u128>{s.pos, s.neg});
  return precision_scale(ClassMass<u64>{static_cast<u64>(s.pos), static_cast<u64>(s.neg)});
}

}  // namespace

double threshold_of(const RankSummary& summary, const OperatingPoint& point) {
  return point.has_key ? score_of_key(summary.kind, point.key)
                       : std::numeric_limits<double>::infinity();
}

Detail::Object describe_point(const RankSummary& summary, const OperatingPoint& point) {
  const bool called = point.tp + point.fp != 0;
  return {
      {"threshold", threshold_of(summary, point)},
      {"tpr", summary.pos == 0 ? Detail() : Detail(exact::ratio(point.tp, summary.pos))},
      {"fpr", summary.neg == 0 ? Detail() : Detail(exact::ratio(point.fp, summary.neg))},
      {"precision", called ? Detail(exact::ratio(point.tp, point.tp + point.fp)) : Detail()},
  };
}

void add_distances(const Evidence& evidence, Detail::Object& details) {
  if (evidence.verification == nullptr || evidence.verification->domain != PairDomain::kL2) return;
  const auto negated = [](const Detail& threshold) {
    const auto* number = std::get_if<double>(&threshold.held());
    return number != nullptr && std::isfinite(*number) ? Detail(0.0 - *number) : Detail();
  };
  Detail::Object all;
  for (auto& [name, value] : details) {
    Detail distance;
    if (name == "threshold") {
      distance = negated(value);
    } else if (name == "thresholds") {
      Detail::List list;
      for (const Detail& one : std::get<Detail::List>(value.held())) list.push_back(negated(one));
      distance = std::move(list);
    }
    const bool many = name == "thresholds";
    all.emplace_back(std::move(name), std::move(value));
    if (distance != Detail())
      all.emplace_back(many ? "distances" : "distance", std::move(distance));
  }
  details = std::move(all);
}

double area_of(const RankSummary& summary, const U256& two_u) {
  return exact::to_double(exact::integer(two_u),
                          2 * exact::integer(summary.pos) * exact::integer(summary.neg));
}

double precision_of(const RankSummary& summary, const U256& precision_sum) {
  return exact::to_double(exact::integer(precision_sum),
                          exact::integer(summary.pos) << static_cast<unsigned>(scale_of(summary)));
}

Detail::Object describe_share(const RankSummary& summary, const RangeShare& share) {
  Detail::Object object;
  object.emplace_back("positives", exact::ratio(share.pos, summary.pos));
  if (summary.neg != 0) {
    object.emplace_back("negatives", exact::ratio(share.neg, summary.neg));
    object.emplace_back("auroc", area_of(summary, share.two_u));
  }
  object.emplace_back("auprc", precision_of(summary, share.precision));
  return object;
}

Detail describe_ranges(const RankSummary& summary, const std::vector<RangeShare>& ranges) {
  Detail::List list;
  for (int i = 0; i < static_cast<int>(ranges.size()); ++i) {
    Detail::Object entry{
        {"firing_rate_to", static_cast<double>(rank_range_end_per_mille(i)) / 1000.0}};
    for (auto& field : describe_share(summary, ranges[static_cast<std::size_t>(i)])) {
      entry.push_back(std::move(field));
    }
    list.emplace_back(std::move(entry));
  }
  return list;
}

}  // namespace cupel
