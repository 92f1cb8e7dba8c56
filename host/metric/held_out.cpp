#include "metric/held_out.hpp"

#include "cupel/math/row_terms.hpp"
#include "cupel/math/tempering.hpp"
#include "metric/exact.hpp"
#include "metric/rows.hpp"

namespace cupel {

HeldOut::HeldOut(const RowSums& sums, const BinTotals& bins) : HeldOut() {
  mass_ = total_mass(sums);
  log_loss_ = sums.log_loss;
  brier_ = sums.brier;
  overflowed_ = sums.overflowed != 0;
  for (std::size_t slot = 0; slot < bins_.size() && slot < bins.mass.size(); ++slot) {
    bins_[slot] = {bins.mass[slot], bins.right[slot], bins.confidence[slot]};
  }
}

void HeldOut::add_loss(double loss, u128 mass) {
  if (mass == 0) return;
  if (is_loss_overflow(loss)) {
    overflowed_ = true;
  } else {
    log_loss_ += multiply(mass, distance_term(loss));
  }
}

void HeldOut::add_pair(double p, u128 positive, u128 negative) {
  mass_ += positive + negative;
  brier_ += multiply(positive, u128{brier_term(p, true)});
  brier_ += multiply(negative, u128{brier_term(p, false)});
  Bin& bin = bins_[static_cast<std::size_t>(bin_slot(p, static_cast<i32>(kHeldOutBins), false))];
  bin.mass += positive + negative;
  bin.right += positive;
  bin.confidence += multiply(positive + negative, u128{confidence_term(p)});
}

void HeldOut::add_logit(double logit, u128 positive, u128 negative) {
  add_loss(log_loss_of_logit(logit, true), positive);
  add_loss(log_loss_of_logit(logit, false), negative);
  add_pair(sigmoid_det(logit), positive, negative);
}

void HeldOut::add_probability(double p, double epsilon, u128 positive, u128 negative) {
  add_loss(log_loss_of_probability(label_probability(p, true), epsilon), positive);
  add_loss(log_loss_of_probability(label_probability(p, false), epsilon), negative);
  add_pair(p, positive, negative);
}

std::optional<double> HeldOut::log_loss() const {
  if (mass_ == 0 || overflowed_) return std::nullopt;
  return exact::to_double(exact::integer(log_loss_), exact::integer(mass_) << kLogLossBits);
}

std::optional<double> HeldOut::brier() const {
  if (mass_ == 0) return std::nullopt;
  return exact::to_double(exact::integer(brier_), exact::integer(mass_) << kBrierBits);
}

std::optional<double> HeldOut::ece() const {
  if (mass_ == 0) return std::nullopt;
  exact::Integer total = 0;
  for (std::size_t bin = 1; bin + 1 < bins_.size(); ++bin) {
    // The confidences 0 and 1 are in the first and the last bin.
    exact::Integer difference = 0;
    const auto add = [&](const Bin& slot) {
      difference +=
          (exact::integer(slot.right) << kConfidenceBits) - exact::integer(slot.confidence);
    };
    add(bins_[bin]);
    if (bin == 1) add(bins_.front());
    if (bin + 2 == bins_.size()) add(bins_.back());
    total += abs(difference);
  }
  return exact::to_double(total, exact::integer(mass_) << kConfidenceBits);
}

}  // namespace cupel
