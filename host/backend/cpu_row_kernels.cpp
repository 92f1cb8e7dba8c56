#include "backend/cpu_row_kernels.hpp"

#include <type_traits>

#include "cupel/math/element.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel::cpu {
namespace {

// ---- reading values ----------------------------------------------------------------------------

struct Half {
  u16 bits;
};
struct BFloat {
  u16 bits;
};
struct Bool {
  u8 byte;
};

template <class Out, class T>
CUPEL_INLINE Out value_as(T value) {
  return static_cast<Out>(value);
}
template <class Out>
CUPEL_INLINE Out value_as(Half value) {
  return static_cast<Out>(float_from_f16(value.bits));
}
template <class Out>
CUPEL_INLINE Out value_as(BFloat value) {
  return static_cast<Out>(float_from_bf16(value.bits));
}
template <class Out>
CUPEL_INLINE Out value_as(Bool value) {
  return value.byte != 0 ? Out(1) : Out(0);
}

/// Calls visit with a zero of the type that a column's elements have in memory.
template <class Visit>
CUPEL_INLINE void with_element(DType dtype, const Visit& visit) {
  switch (dtype) {
    case DType::kBool:
      return visit(Bool{});
    case DType::kI8:
      return visit(i8{});
    case DType::kI16:
      return visit(i16{});
    case DType::kI32:
      return visit(i32{});
    case DType::kI64:
      return visit(i64{});
    case DType::kU8:
      return visit(u8{});
    case DType::kU16:
      return visit(u16{});
    case DType::kU32:
      return visit(u32{});
    case DType::kU64:
      return visit(u64{});
    case DType::kF16:
      return visit(Half{});
    case DType::kBF16:
      return visit(BFloat{});
    case DType::kF32:
      return visit(float{});
    case DType::kF64:
      return visit(double{});
    case DType::kBytes:
    case DType::kUnicode:
    case DType::kText:
      break;
  }
  CUPEL_ASSERT(false);  // strings are no scores
}

// The visitors are types with a forced operator(), not lambdas: only so is their loop certain to be
// compiled for the instruction set of the kernel around it.

struct ColumnLoad {
  const ScoreMatrix& matrix;
  i64 row, rows, column, columns;
  double* out;
  i64 out_stride;

  template <class T>
  static CUPEL_INLINE double at(const std::byte* p) {
    if constexpr (std::is_same_v<T, i64> || std::is_same_v<T, u64>) {
      return double_above(load<T>(p));
    } else {
      return value_as<double>(load<T>(p));
    }
  }
  template <class T>
  CUPEL_INLINE void operator()(T) const {
    constexpr i64 kSize = sizeof(T);
    const std::byte* first = matrix.data + row * matrix.row_stride + column * matrix.column_stride;
    if (matrix.row_stride == kSize || columns == 1) {
      for (i64 c = 0; c < columns; ++c) {
        const std::byte* from = first + c * matrix.column_stride;
        double* to = out + c * out_stride;
        if (matrix.row_stride == kSize) {
          for (i64 r = 0; r < rows; ++r) to[r] = at<T>(from + r * kSize);
        } else {
          for (i64 r = 0; r < rows; ++r) to[r] = at<T>(from + r * matrix.row_stride);
        }
      }
      return;
    }
    // Along the rows: neighbours in memory first, and no more cache lines at once than columns.
    for (i64 r = 0; r < rows; ++r) {
      const std::byte* from = first + r * matrix.row_stride;
      for (i64 c = 0; c < columns; ++c) {
        out[c * out_stride + r] = at<T>(from + c * matrix.column_stride);
      }
    }
  }
};

template <class Out>
struct RowLoad {
  const ScoreMatrix& matrix;
  i64 row, rows, classes;
  Out* out;

  template <class T>
  CUPEL_INLINE void operator()(T) const {
    constexpr i64 kSize = sizeof(T);
    const std::byte* first = matrix.data + row * matrix.row_stride;
    if (matrix.column_stride == kSize) {
      for (i64 r = 0; r < rows; ++r) {
        const std::byte* from = first + r * matrix.row_stride;
        Out* to = out + r * classes;
        for (i64 c = 0; c < classes; ++c) to[c] = value_as<Out>(load<T>(from + c * kSize));
      }
      return;
    }
    // Neighbours along a column share cache lines.
    for (i64 c = 0; c < classes; ++c) {
      const std::byte* from = first + c * matrix.column_stride;
      for (i64 r = 0; r < rows; ++r) {
        out[r * classes + c] = value_as<Out>(load<T>(from + r * matrix.row_stride));
      }
    }
  }
};

// ---- binary problems ---------------------------------------------------------------------------

CUPEL_INLINE void load_labels_body(const u8* __restrict labels, i64 row_stride, i64 rows,
                                   i64 columns, u64* __restrict out, i64 out_stride) {
  if (row_stride == 1 && columns == 1) {
    for (i64 r = 0; r < rows; ++r) out[r] = labels[r];
    return;
  }
  for (i64 r = 0; r < rows; ++r) {
    for (i64 c = 0; c < columns; ++c) out[c * out_stride + r] = labels[r * row_stride + c];
  }
}

/// One loop for whatever is asked for, so that a row is read once. Inputs and outputs do not
/// overlap, which a loop over members cannot know.
template <bool kLogits, bool kBrier, bool kLogLoss>
CUPEL_INLINE BlockSums terms_of(const TermSpec& spec, ColumnBlock& block) {
  const double* __restrict score = block.score;
  const u64* __restrict label = block.label;
  u64* __restrict brier = block.brier;
  u64* __restrict loss = block.loss;
  u64* __restrict flags = block.flags;
  const double epsilon = spec.epsilon;
  const i64 rows = block.rows;
  u64 positives = 0;
  u64 brier_sum = 0;
  u64 loss_sum = 0;
  u64 flags_sum = 0;
  for (i64 i = 0; i < rows; ++i) {
    const bool positive = label[i] != 0;
    positives += label[i];
    double p = 0;
    u64 flag = 0;
    u64 keep = ~u64{0};
    if constexpr (kLogits) {
      if constexpr (kBrier) p = sigmoid_det(score[i]);
    } else if constexpr (kBrier || kLogLoss) {
      // One half stands in for what is no probability: its terms are computed and dropped.
      const bool inside = is_probability(score[i]);
      p = double_from_bits(select_bits(inside, bits_from_double(score[i]), bits_from_double(0.5)));
      keep = u64{0} - static_cast<u64>(inside);
      flag = keep + 1;
      static_assert(kFlagOutside == 1);
    }
    if constexpr (kBrier) {
      const u64 term = brier_term(p, positive) & keep;
      brier[i] = term;
      brier_sum += term;
    }
    if constexpr (kLogLoss) {
      u64 term = 0;
      if constexpr (kLogits) {
        const double value = log_loss_of_logit(score[i], positive);
        const bool is_short = has_short_loss(value);
        term = select_bits(is_short, short_loss_term(value), 0);
        flag = select_bits(is_short, 0, kFlagLong);
      } else {
        const double q = label_probability(p, positive);
        term = short_loss_term(log_loss_of_probability(q, epsilon)) & keep;
        flag |= select_bits(is_clipped(q, epsilon), kFlagClipped, 0);
      }
      loss[i] = term;
      loss_sum += term;
    }
    if constexpr (kBrier || kLogLoss) {
      flags[i] = flag;
      flags_sum += flag;
    }
  }
  return {positives, brier_sum, loss_sum, flags_sum};
}

template <bool kLogits>
CUPEL_INLINE BlockSums terms_body(const TermSpec& spec, ColumnBlock& block) {
  if (spec.brier && spec.log_loss) return terms_of<kLogits, true, true>(spec, block);
  if (spec.brier) return terms_of<kLogits, true, false>(spec, block);
  if (spec.log_loss) return terms_of<kLogits, false, true>(spec, block);
  return terms_of<kLogits, false, false>(spec, block);
}
CUPEL_INLINE BlockSums terms_body(const TermSpec& spec, ColumnBlock& block) {
  return spec.logits ? terms_body<true>(spec, block) : terms_body<false>(spec, block);
}

CUPEL_INLINE Decisions decisions_body(const ColumnBlock& block, double threshold) {
  u64 positives = 0;
  u64 true_positives = 0;
  for (i64 i = 0; i < block.rows; ++i) {
    const u64 positive = decides_positive(block.score[i], threshold) ? 1 : 0;
    positives += positive;
    true_positives += positive & block.label[i];
  }
  return {positives, true_positives};
}

CUPEL_INLINE void probabilities_body(const TermSpec& spec, const ColumnBlock& block,
                                     double* __restrict out) {
  const double* __restrict score = block.score;
  if (spec.logits) {
    for (i64 i = 0; i < block.rows; ++i) out[i] = sigmoid_det(score[i]);
  } else {
    for (i64 i = 0; i < block.rows; ++i) out[i] = score[i];
  }
}

template <bool kTop, bool kClosedLeft>
CUPEL_INLINE void bin_terms_of(i32 bins, const ColumnBlock& block, const double* __restrict p,
                               BinBlock& out) {
  const u64* __restrict label = block.label;
  const u64* __restrict flags = block.flags;
  u64* __restrict slot = out.slot;
  u64* __restrict term = out.term;
  u64* __restrict right = out.right;
  const u64 none = static_cast<u64>(bin_slots(bins));
  for (i64 i = 0; i < block.rows; ++i) {
    // One half stands in for what is no probability.
    const bool outside = (flags[i] & kFlagOutside) != 0;
    const double q =
        double_from_bits(select_bits(outside, bits_from_double(0.5), bits_from_double(p[i])));
    double confidence = q;
    u64 is_right = label[i];
    if constexpr (kTop) {
      const TopConfidence top = top_of_binary(q, label[i] != 0);
      confidence = top.confidence;
      is_right = static_cast<u64>(top.right);
    }
    const u64 own = static_cast<u64>(bin_slot(confidence, bins, kClosedLeft));
    slot[i] = select_bits(outside, none, own);
    term[i] = confidence_term(confidence);
    right[i] = is_right;
  }
}

CUPEL_INLINE void bin_terms_body(const BinQuery& query, const ColumnBlock& block, const double* p,
                                 BinBlock& out) {
  const i32 bins = static_cast<i32>(query.bins);
  if (query.points == BinPoints::kTop) {
    if (query.closed_left) return bin_terms_of<true, true>(bins, block, p, out);
    return bin_terms_of<true, false>(bins, block, p, out);
  }
  if (query.closed_left) return bin_terms_of<false, true>(bins, block, p, out);
  return bin_terms_of<false, false>(bins, block, p, out);
}

// ---- multiclass rows ---------------------------------------------------------------------------

template <class T>
struct RowValues {
  const T* values;
  CUPEL_INLINE T operator()(i64 j) const { return values[j]; }
};

/// Squared errors of so many probabilities, each as another class's, fit 64 bits.
constexpr i64 kBrierRun = i64{1} << 12;

/// The sum of squared_term(values[j] * scale).
template <class T>
CUPEL_INLINE u128 squares(const T* values, i64 count, double scale) {
  u128 total = 0;
  for (i64 first = 0; first < count; first += kBrierRun) {
    const i64 last = first + kBrierRun < count ? first + kBrierRun : count;
    u64 run = 0;
    for (i64 j = first; j < last; ++j) {
      run += squared_term(scaled_softmax_p(static_cast<double>(values[j]), scale));
    }
    total += run;
  }
  return total;
}

/// The sum over classes, the label's own squared error in place of what squares() took it for.
CUPEL_INLINE u128 class_brier(u128 all_squares, double label_p) {
  return all_squares - brier_term(label_p, false) + brier_term(label_p, true);
}

template <class T>
CUPEL_INLINE bool all_probabilities(const T* values, i64 count) {
  // A counter as wide as the values: one lane of a vector for each.
  std::conditional_t<sizeof(T) == 4, i32, i64> outside = 0;
  for (i64 j = 0; j < count; ++j) outside += is_probability(values[j]) ? 0 : 1;
  return outside == 0;
}

/// Exponentials that are summed while they are in the nearest cache.
constexpr i64 kExpRun = 512;

/// The row's softmax, its terms kept.
template <class T>
CUPEL_INLINE RowSoftmax softmax_keeping_terms(const T* values, i64 classes, double max,
                                              double* terms) {
  UnitSum sum;
  // In two loops, a run at a time: an exponential's chain of operations is as long as a processor
  // looks ahead, and the sum would make it longer.
  for (i64 first = 0; first < classes; first += kExpRun) {
    const i64 last = first + kExpRun < classes ? first + kExpRun : classes;
    for (i64 j = first; j < last; ++j) {
      terms[j] = softmax_term(static_cast<double>(values[j]), max);
    }
    for (i64 j = first; j < last; ++j) sum.add(terms[j]);
  }
  return {max, sum.value()};
}

/// The class that a row predicts: the first of the largest values. Without `predicts` only
/// whether it is the label has to be right, which the label's rank tells without a search.
template <class T>
CUPEL_INLINE i32 predicted_class(const TermSpec& spec, const T* values, T largest, i64 label,
                                 i32 rank) {
  if (rank == 0) return static_cast<i32>(label);
  if (!spec.predicts) return -1;
  i32 j = 0;
  while (values[j] != largest) ++j;
  return j;
}

template <class T>
CUPEL_INLINE void class_row_body(const TermSpec& spec, const T* values, i64 classes,
                                 double* scratch, ClassBlock& block, i64 index) {
  const RowValues<T> row{values};
  const i64 label = block.labels[index];
  if (spec.ranks) block.rank[index] = label_rank(row, classes, label);
  if (!spec.brier && !spec.log_loss) return;
  block.label_value[index] = static_cast<double>(values[label]);
  block.flags[index] = 0;
  if (!spec.logits) {
    if (!all_probabilities(values, classes)) {
      block.flags[index] = kFlagOutside;
      block.label_value[index] = 0.5;  // stands in, as in probability_terms()
      block.brier[index] = 0;
    } else {
      if (spec.brier) {
        block.brier[index] = class_brier(squares(values, classes, 1.0), block.label_value[index]);
      }
      if (spec.top) {
        const T largest = row_max(row, classes);
        block.top_p[index] = static_cast<double>(largest);
        block.predicted[index] = predicted_class(spec, values, largest, label, block.rank[index]);
      }
      if (spec.each_class) {
        double* to = block.each_p + index * classes;
        for (i64 j = 0; j < classes; ++j) to[j] = static_cast<double>(values[j]);
      }
    }
    return;
  }
  const T largest = row_max(row, classes);
  const double max = static_cast<double>(largest);
  RowSoftmax softmax{};
  if (spec.brier) {
    softmax = softmax_keeping_terms(values, classes, max, scratch);
    const double scale = softmax_scale(softmax);
    block.brier[index] =
        class_brier(squares(scratch, classes, scale), scaled_softmax_p(scratch[label], scale));
    if (spec.top) {
      // The largest logit's term is 1.
      block.top_p[index] = scale;
      block.predicted[index] = predicted_class(spec, values, largest, label, block.rank[index]);
    }
    if (spec.each_class) {
      double* to = block.each_p + index * classes;
      for (i64 j = 0; j < classes; ++j) to[j] = scaled_softmax_p(scratch[j], scale);
    }
  } else {
    softmax = softmax_row_given_max(row, classes, max);
  }
  block.max[index] = softmax.max;
  block.denominator[index] = softmax.denominator;
}

CUPEL_INLINE void class_losses_body(const TermSpec& spec, ClassBlock& block) {
  const i64 rows = block.rows;
  if (spec.logits) {
    for (i64 i = 0; i < rows; ++i) {
      const RowSoftmax softmax{block.max[i], block.denominator[i]};
      const double loss = log_softmax_loss(block.label_value[i], softmax);
      const bool is_short = has_short_loss(loss);
      block.loss_value[i] = loss;
      block.loss[i] = select_bits(is_short, short_loss_term(loss), 0);
      block.flags[i] |= select_bits(is_short, 0, kFlagLong);
    }
  } else {
    for (i64 i = 0; i < rows; ++i) {
      const double p = block.label_value[i];
      const double loss = log_loss_of_probability(p, spec.epsilon);
      block.loss_value[i] = loss;
      block.loss[i] = short_loss_term(loss) & (block.flags[i] - 1);
      block.flags[i] |= select_bits(is_clipped(p, spec.epsilon), kFlagClipped, 0);
    }
  }
}

// ---- one set of kernels for each instruction set -----------------------------------------------

// A target belongs to a function, so each set is written out.

struct BaseSet {
  static void load_columns(const ScoreMatrix& matrix, i64 row, i64 rows, i64 column, i64 columns,
                           double* out, i64 out_stride) {
    with_element(matrix.dtype, ColumnLoad{matrix, row, rows, column, columns, out, out_stride});
  }
  static BlockSums terms(const TermSpec& spec, ColumnBlock& block) {
    return terms_body(spec, block);
  }
  static void load_labels(const u8* labels, i64 row_stride, i64 rows, i64 columns, u64* out,
                          i64 out_stride) {
    load_labels_body(labels, row_stride, rows, columns, out, out_stride);
  }
  static Decisions decisions(const ColumnBlock& block, double threshold) {
    return decisions_body(block, threshold);
  }
  static void probabilities(const TermSpec& spec, const ColumnBlock& block, double* out) {
    probabilities_body(spec, block, out);
  }
  static void bin_terms(const BinQuery& query, const ColumnBlock& block, const double* p,
                        BinBlock& out) {
    bin_terms_body(query, block, p, out);
  }
  static void load_rows_f32(const ScoreMatrix& matrix, i64 row, i64 rows, i64 classes, float* out) {
    with_element(matrix.dtype, RowLoad<float>{matrix, row, rows, classes, out});
  }
  static void load_rows_f64(const ScoreMatrix& matrix, i64 row, i64 rows, i64 classes,
                            double* out) {
    with_element(matrix.dtype, RowLoad<double>{matrix, row, rows, classes, out});
  }
  static void class_row_f32(const TermSpec& spec, const float* values, i64 classes, double* scratch,
                            ClassBlock& block, i64 index) {
    class_row_body(spec, values, classes, scratch, block, index);
  }
  static void class_row_f64(const TermSpec& spec, const double* values, i64 classes,
                            double* scratch, ClassBlock& block, i64 index) {
    class_row_body(spec, values, classes, scratch, block, index);
  }
  static void class_losses(const TermSpec& spec, ClassBlock& block) {
    class_losses_body(spec, block);
  }
};

struct V3Set {
  CUPEL_TARGET_V3 static void load_columns(const ScoreMatrix& matrix, i64 row, i64 rows, i64 column,
                                           i64 columns, double* out, i64 out_stride) {
    with_element(matrix.dtype, ColumnLoad{matrix, row, rows, column, columns, out, out_stride});
  }
  CUPEL_TARGET_V3 static BlockSums terms(const TermSpec& spec, ColumnBlock& block) {
    return terms_body(spec, block);
  }
  CUPEL_TARGET_V3 static void load_labels(const u8* labels, i64 row_stride, i64 rows, i64 columns,
                                          u64* out, i64 out_stride) {
    load_labels_body(labels, row_stride, rows, columns, out, out_stride);
  }
  CUPEL_TARGET_V3 static Decisions decisions(const ColumnBlock& block, double threshold) {
    return decisions_body(block, threshold);
  }
  CUPEL_TARGET_V3 static void probabilities(const TermSpec& spec, const ColumnBlock& block,
                                            double* out) {
    probabilities_body(spec, block, out);
  }
  CUPEL_TARGET_V3 static void bin_terms(const BinQuery& query, const ColumnBlock& block,
                                        const double* p, BinBlock& out) {
    bin_terms_body(query, block, p, out);
  }
  CUPEL_TARGET_V3 static void load_rows_f32(const ScoreMatrix& matrix, i64 row, i64 rows,
                                            i64 classes, float* out) {
    with_element(matrix.dtype, RowLoad<float>{matrix, row, rows, classes, out});
  }
  CUPEL_TARGET_V3 static void load_rows_f64(const ScoreMatrix& matrix, i64 row, i64 rows,
                                            i64 classes, double* out) {
    with_element(matrix.dtype, RowLoad<double>{matrix, row, rows, classes, out});
  }
  CUPEL_TARGET_V3 static void class_row_f32(const TermSpec& spec, const float* values, i64 classes,
                                            double* scratch, ClassBlock& block, i64 index) {
    class_row_body(spec, values, classes, scratch, block, index);
  }
  CUPEL_TARGET_V3 static void class_row_f64(const TermSpec& spec, const double* values, i64 classes,
                                            double* scratch, ClassBlock& block, i64 index) {
    class_row_body(spec, values, classes, scratch, block, index);
  }
  CUPEL_TARGET_V3 static void class_losses(const TermSpec& spec, ClassBlock& block) {
    class_losses_body(spec, block);
  }
};

struct V4Set {
  CUPEL_TARGET_V4 static void load_columns(const ScoreMatrix& matrix, i64 row, i64 rows, i64 column,
                                           i64 columns, double* out, i64 out_stride) {
    with_element(matrix.dtype, ColumnLoad{matrix, row, rows, column, columns, out, out_stride});
  }
  CUPEL_TARGET_V4 static BlockSums terms(const TermSpec& spec, ColumnBlock& block) {
    return terms_body(spec, block);
  }
  CUPEL_TARGET_V4 static void load_labels(const u8* labels, i64 row_stride, i64 rows, i64 columns,
                                          u64* out, i64 out_stride) {
    load_labels_body(labels, row_stride, rows, columns, out, out_stride);
  }
  CUPEL_TARGET_V4 static Decisions decisions(const ColumnBlock& block, double threshold) {
    return decisions_body(block, threshold);
  }
  CUPEL_TARGET_V4 static void probabilities(const TermSpec& spec, const ColumnBlock& block,
                                            double* out) {
    probabilities_body(spec, block, out);
  }
  CUPEL_TARGET_V4 static void bin_terms(const BinQuery& query, const ColumnBlock& block,
                                        const double* p, BinBlock& out) {
    bin_terms_body(query, block, p, out);
  }
  CUPEL_TARGET_V4 static void load_rows_f32(const ScoreMatrix& matrix, i64 row, i64 rows,
                                            i64 classes, float* out) {
    with_element(matrix.dtype, RowLoad<float>{matrix, row, rows, classes, out});
  }
  CUPEL_TARGET_V4 static void load_rows_f64(const ScoreMatrix& matrix, i64 row, i64 rows,
                                            i64 classes, double* out) {
    with_element(matrix.dtype, RowLoad<double>{matrix, row, rows, classes, out});
  }
  CUPEL_TARGET_V4 static void class_row_f32(const TermSpec& spec, const float* values, i64 classes,
                                            double* scratch, ClassBlock& block, i64 index) {
    class_row_body(spec, values, classes, scratch, block, index);
  }
  CUPEL_TARGET_V4 static void class_row_f64(const TermSpec& spec, const double* values, i64 classes,
                                            double* scratch, ClassBlock& block, i64 index) {
    class_row_body(spec, values, classes, scratch, block, index);
  }
  CUPEL_TARGET_V4 static void class_losses(const TermSpec& spec, ClassBlock& block) {
    class_losses_body(spec, block);
  }
};

template <class Set>
constexpr RowKernels kernels_of = {
    .load_columns = Set::load_columns,
    .load_labels = Set::load_labels,
    .terms = Set::terms,
    .decisions = Set::decisions,
    .probabilities = Set::probabilities,
    .bin_terms = Set::bin_terms,
    .load_rows_f32 = Set::load_rows_f32,
    .load_rows_f64 = Set::load_rows_f64,
    .class_row_f32 = Set::class_row_f32,
    .class_row_f64 = Set::class_row_f64,
    .class_losses = Set::class_losses,
};

template <class T>
i32 integer_rank_of(const ScoreMatrix& matrix, i64 row, i64 classes, i64 label) {
  const std::byte* first = matrix.data + row * matrix.row_stride;
  return label_rank([&](i64 j) { return load<T>(first + j * matrix.column_stride); }, classes,
                    label);
}

}  // namespace

const RowKernels& row_kernels(CpuLevel level) {
  switch (level) {
    case CpuLevel::kV4:
      return kernels_of<V4Set>;
    case CpuLevel::kV3:
      return kernels_of<V3Set>;
    case CpuLevel::kBaseline:
      break;
  }
  return kernels_of<BaseSet>;
}

bool wide_values(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kI32 || dtype == DType::kU32 ||
         dtype == DType::kI64 || dtype == DType::kU64;
}

i32 integer_rank(const ScoreMatrix& matrix, i64 row, i64 classes, i64 label) {
  CUPEL_ASSERT(matrix.dtype == DType::kI64 || matrix.dtype == DType::kU64);
  return matrix.dtype == DType::kI64 ? integer_rank_of<i64>(matrix, row, classes, label)
                                     : integer_rank_of<u64>(matrix, row, classes, label);
}

}  // namespace cupel::cpu
