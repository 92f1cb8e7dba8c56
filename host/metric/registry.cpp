// The one table of metrics. Help, defaults, tests and "did you mean" are derived from it.
#include <array>

#include "metric/list.hpp"

namespace cupel {

std::span<const Metric* const> all_metrics() {
  static const std::array kMetrics{
      &auroc(),
      &auprc(),
      &ks(),
      &eer(),
      &f_beta_max(),
      &tpr_at_fpr(),
      &fpr_at_tpr(),
      &gini(),
      &precision_at_recall(),
      &recall_at_precision(),
      &roc(),
      &pr(),
      &xauc(),
      &accuracy(),
      &balanced_accuracy(),
      &top_k_accuracy(),
      &log_loss(),
      &brier(),
      &brier_skill(),
      &ece(),
      &ece_top_label(),
      &mce(),
      &rmsce(),
      &average_ce(),
      &classwise_ece(),
      &ece_by_predicted_class(),
      &smooth_ece(),
      &spiegelhalter_z(),
      &ace(),
      &tace(),
      &ece_sweep(),
      &ks_calibration(),
      &kuiper_calibration(),
      &mmce(),
      &skce(),
      &temperature(),
      &platt(),
      &isotonic(),
      &coverage(),
      &set_size(),
      &mae(),
      &rmse(),
      &interval_width(),
      &interval_score(),
      &cwc(),
      &singleton_rate(),
      &singleton_hit_rate(),
      &empty_rate(),
      &sscv(),
      &ssc(),
      &diff_violation(),
      &cov_gap(),
      &macro_coverage(),
      &worst_slab_coverage(),
      &uacc(),
      &aurc(),
      &e_aurc(),
      &auarc(),
      &risk_at_coverage(),
      &coverage_at_risk(),
  };
  return kMetrics;
}

}  // namespace cupel
