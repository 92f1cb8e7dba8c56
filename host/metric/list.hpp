// The metrics that registry.cpp lists, one declaration each.
#pragma once

#include "cupel/metric/metric.hpp"

namespace cupel {

const Metric& auroc();
const Metric& auprc();
const Metric& roc();
const Metric& pr();
const Metric& ks();
const Metric& gini();
const Metric& eer();
const Metric& tpr_at_fpr();
const Metric& fpr_at_tpr();
const Metric& precision_at_recall();
const Metric& recall_at_precision();
const Metric& f_beta_max();
const Metric& xauc();
const Metric& accuracy();
const Metric& balanced_accuracy();
const Metric& top_k_accuracy();
const Metric& log_loss();
const Metric& brier();
const Metric& brier_skill();
const Metric& ece();
const Metric& ece_top_label();
const Metric& mce();
const Metric& rmsce();
const Metric& average_ce();
const Metric& classwise_ece();
const Metric& ece_by_predicted_class();
const Metric& smooth_ece();
const Metric& spiegelhalter_z();
const Metric& ace();
const Metric& tace();
const Metric& ece_sweep();
const Metric& ks_calibration();
const Metric& kuiper_calibration();
const Metric& mmce();
const Metric& skce();
const Metric& temperature();
const Metric& platt();
const Metric& isotonic();
const Metric& coverage();
const Metric& set_size();
const Metric& interval_width();
const Metric& interval_score();
const Metric& cwc();
const Metric& mae();
const Metric& rmse();
const Metric& singleton_rate();
const Metric& singleton_hit_rate();
const Metric& empty_rate();
const Metric& sscv();
const Metric& ssc();
const Metric& diff_violation();
const Metric& cov_gap();
const Metric& macro_coverage();
const Metric& worst_slab_coverage();
const Metric& uacc();
const Metric& aurc();
const Metric& e_aurc();
const Metric& auarc();
const Metric& risk_at_coverage();
const Metric& coverage_at_risk();
const Metric& abstention_policy();
const Metric& p_value();
const Metric& p_value_efficiency();
const Metric& selection_fdp();
const Metric& selection_power();
const Metric& selection_rate();
const Metric& risk_control();
const Metric& controlled_risk();
const Metric& tar_at_far();
const Metric& opis();
const Metric& eps_opis();
const Metric& class_far();
const Metric& class_frr();
const Metric& far_spread();
const Metric& frr_spread();
const Metric& recall_at_k();
const Metric& map_at_r();
const Metric& r_precision();

}  // namespace cupel
