// What one row adds to the metrics that are means over rows: its squared error, its log loss,
// whether its decision is right and where its label ranks. Brier score: the sum over the classes of
// (p - [label])^2, of a binary problem the positive class alone. Log loss: -ln of the label's
// probability, clipped to [epsilon, 1 - epsilon], or, from logits, unclipped.
// Every term is an integer, rounded once here, so that sums over rows know no order.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {

/// Squared errors are integers in units of 2^-50, log losses in units of 2^-44.
inline constexpr int kBrierBits = 50;
inline constexpr int kLogLossBits = 44;

/// The machine epsilons of the floating dtypes, to which the log loss clips; integers take
/// float64's.
inline constexpr double kEpsilonF16 = 0x1p-10;
inline constexpr double kEpsilonBF16 = 0x1p-7;
inline constexpr double kEpsilonF32 = 0x1p-23;
inline constexpr double kEpsilonF64 = 0x1p-52;

// ---- probabilities and decisions ---------------------------------------------------------------

// Both sides of each condition below are computed, so that loops over rows stay free of branches.

/// In [0, 1]; of a float or a double.
template <class T>
CUPEL_HD CUPEL_INLINE bool is_probability(T p) {
  return static_cast<bool>(static_cast<int>(p >= T(0)) & static_cast<int>(p <= T(1)));
}

/// The probability of the class that a row of a binary problem has, p being the positive one's.
CUPEL_HD CUPEL_INLINE double label_probability(double p, bool positive) {
  return double_from_bits(select_bits(positive, bits_from_double(p), bits_from_double(1.0 - p)));
}

/// The decision of a binary problem; a score equal to the threshold is negative.
CUPEL_HD CUPEL_INLINE bool decides_positive(double score, double threshold) {
  return score > threshold;
}

/// How many of row(0) ... row(k - 1) rank before the label's: larger, or equal at a lower index.
/// The arg-max, ties to the lowest index, is the label exactly when this is 0, and the label is
/// among the first n exactly when it is below n. Values are compared as they are; k is below 2^31.
template <class Row>
CUPEL_HD CUPEL_INLINE i32 label_rank(const Row& row, i64 k, i64 label) {
  const auto value = row(label);
  i32 rank = 0;
  for (i64 j = 0; j < label; ++j) rank += row(j) >= value ? 1 : 0;
  for (i64 j = label + 1; j < k; ++j) rank += row(j) > value ? 1 : 0;
  return rank;
}

// ---- squared errors ----------------------------------------------------------------------------

/// round-half-even(difference^2 * 2^50), the square not rounded before; |difference| <= 1, so at
/// most 2^50; meaningless elsewhere.
CUPEL_HD CUPEL_INLINE u64 squared_term(double difference) {
  // A double in [4, 8) has a unit of 2^-50.
  return bits_from_double(fused(difference, difference, 4.0)) - bits_from_double(4.0);
}

/// The squared error of a probability in [0, 1], the label's own or another class's; also that of a
/// row of a binary problem, with the probability of the positive class. The difference is a double.
CUPEL_HD CUPEL_INLINE u64 brier_term(double p, bool is_label) {
  return squared_term(p - double_from_bits(select_bits(is_label, bits_from_double(1.0), 0)));
}

/// 1 / denominator, in [0, 1]: a row's squared errors multiply by it, one division for all classes.
CUPEL_HD CUPEL_INLINE double softmax_scale(RowSoftmax row) { return 1.0 / row.denominator; }

/// The probability that a row of logits gives to its squared error, in [0, 1]: the class's term of
/// the denominator times softmax_scale(). Within one unit in the last place of softmax_p().
CUPEL_HD CUPEL_INLINE double scaled_softmax_p(double term, double scale) { return term * scale; }

// ---- log losses --------------------------------------------------------------------------------

/// A probability is clipped when it is outside [epsilon, 1 - epsilon].
CUPEL_HD CUPEL_INLINE bool is_clipped(double p, double epsilon) {
  return static_cast<bool>(static_cast<int>(p < epsilon) | static_cast<int>(p > 1.0 - epsilon));
}

CUPEL_HD CUPEL_INLINE double clipped_probability(double p, double epsilon) {
  const double above = p < epsilon ? epsilon : p;
  return above > 1.0 - epsilon ? 1.0 - epsilon : above;
}

/// -ln of the label's probability, clipped; epsilon in (0, 1/2).
CUPEL_HD CUPEL_INLINE double log_loss_of_probability(double p, double epsilon) {
  // What log_det() gives, short of the cases that a clipped probability cannot be.
  return -detail::log_normal(clipped_probability(p, epsilon), 0.0);
}

/// -ln of the probability of a row's class, given the logit of the positive class.
CUPEL_HD CUPEL_INLINE double log_loss_of_logit(double logit, bool positive) {
  const u64 flipped = bits_from_double(logit) ^ (static_cast<u64>(positive) << 63);
  return log1p_exp_det(double_from_bits(flipped));
}

/// Whether short_loss_term() holds for a loss; the others take long_loss_term().
CUPEL_HD CUPEL_INLINE bool has_short_loss(double loss) { return loss < 0x1p8; }

/// round-half-even(loss * 2^44), below 2^52; 0 <= loss < 2^8.
CUPEL_HD CUPEL_INLINE u64 short_loss_term(double loss) { return round_q(loss, kLogLossBits); }

/// A loss of 2^52 or more (infinite too) is counted, not summed.
CUPEL_HD CUPEL_INLINE bool is_loss_overflow(double loss) { return !(loss < 0x1p52); }

/// loss * 2^44, exactly, below 2^96; 2^8 <= loss < 2^52.
CUPEL_HD CUPEL_INLINE u128 long_loss_term(double loss) {
  // loss = significand * 2^(exponent - 1075), and its last bit is 2^-44 or more.
  const u64 bits = bits_from_double(loss);
  const int exponent = static_cast<int>(bits >> 52);
  const u64 significand = (bits & 0xFFFFFFFFFFFFFu) | 0x10000000000000u;
  return static_cast<u128>(significand) << (exponent - 1075 + kLogLossBits);
}

}  // namespace cupel
