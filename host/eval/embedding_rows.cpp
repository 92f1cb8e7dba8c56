#include "eval/embedding_rows.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "backend/cpu_level.hpp"
#include "cupel/core/config.hpp"
#include "cupel/math/embedding.hpp"
#include "cupel/math/half.hpp"

namespace cupel {
namespace {

/// Magnitudes as bits: their order is that of the numbers, NaN above infinity.
struct MagnitudeLimits {
  u64 bad = 0;      ///< from here on not finite as float32
  u64 nonzero = 1;  ///< from here on not zero as float32
};

MagnitudeLimits limits_of(DType type) {
  switch (type) {
    case DType::kF16:
      return {0x7C00, 1};
    case DType::kBF16:
      return {0x7F80, 1};
    case DType::kF32:
      return {0x7F80'0000, 1};
    default:
      // Halves between two floats go to the even one: upwards at the largest, down to zero at the
      // smallest.
      return {std::bit_cast<u64>(0x1.ffffffp127), std::bit_cast<u64>(0x1p-150) + 1};
  }
}

/// The largest magnitude of `count` elements that lie `step` bytes apart.
template <class U>
CUPEL_INLINE U largest_body(const std::byte* at, i64 count) {
  constexpr U kMagnitude = std::numeric_limits<U>::max() >> 1;
  U largest = 0;
  for (i64 k = 0; k < count; ++k) {
    const U magnitude = load<U>(at + k * static_cast<i64>(sizeof(U))) & kMagnitude;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

/// The same of many lists at once: list i's k-th element is the i-th of column k.
template <class U>
CUPEL_INLINE void raise_body(const std::byte* column, i64 count, U* largest) {
  constexpr U kMagnitude = std::numeric_limits<U>::max() >> 1;
  for (i64 i = 0; i < count; ++i) {
    const U magnitude = load<U>(column + i * static_cast<i64>(sizeof(U))) & kMagnitude;
    largest[i] = magnitude > largest[i] ? magnitude : largest[i];
  }
}

template <class U>
CUPEL_TARGET_V3 U largest_v3(const std::byte* at, i64 count) {
  return largest_body<U>(at, count);
}
template <class U>
CUPEL_TARGET_V3 void raise_v3(const std::byte* column, i64 count, U* largest) {
  raise_body<U>(column, count, largest);
}

/// The largest magnitude of each row of [first, first + rows).
template <class U>
void row_largest(const ArrayView& view, i64 first, i64 rows, U* largest) {
  const auto item = static_cast<i64>(sizeof(U));
  const i64 width = view.cols();
  const bool wide = cpu_level() >= CpuLevel::kV3;
  if (width == 1 || view.strides[1] == item) {
    for (i64 i = 0; i < rows; ++i) {
      const std::byte* at = view.at(first + i);
      largest[i] = wide ? largest_v3<U>(at, width) : largest_body<U>(at, width);
    }
    return;
  }
  std::fill_n(largest, rows, U{0});
  if (view.strides[0] == item) {
    for (i64 k = 0; k < width; ++k) {
      const std::byte* column = view.at(first, k);
      wide ? raise_v3<U>(column, rows, largest) : raise_body<U>(column, rows, largest);
    }
    return;
  }
  for (i64 i = 0; i < rows; ++i) {
    for (i64 k = 0; k < width; ++k) raise_body<U>(view.at(first + i, k), 1, largest + i);
  }
}

constexpr i64 kRowsAtOnce = 512;

// ---- copying
// -------------------------------------------------------------------------------------

CUPEL_INLINE float rounded_element(DType type, const std::byte* at) {
  switch (type) {
    case DType::kF16:
      return float_from_f16(load<u16>(at));
    case DType::kBF16:
      return float_from_bf16(load<u16>(at));
    case DType::kF32:
      return load<float>(at);
    default:
      return static_cast<float>(load<double>(at));
  }
}

CUPEL_INLINE void round_body(DType type, const std::byte* from, i64 count, float* to) {
  switch (type) {
    case DType::kF16:
      for (i64 k = 0; k < count; ++k) to[k] = float_from_f16(load<u16>(from + 2 * k));
      break;
    case DType::kBF16:
      for (i64 k = 0; k < count; ++k) to[k] = float_from_bf16(load<u16>(from + 2 * k));
      break;
    case DType::kF32:
      std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
      break;
    default:
      for (i64 k = 0; k < count; ++k) to[k] = static_cast<float>(load<double>(from + 8 * k));
  }
}

constexpr int kChains = 8;

/// dot_chain of each of kChains rows and itself.
CUPEL_INLINE void chains_body(float* const* rows, i64 width, float* sums) {
  float sum[kChains] = {};
  for (i64 k = 0; k < width; ++k) {
    CUPEL_UNROLL
    for (int i = 0; i < kChains; ++i) sum[i] = add_product(sum[i], rows[i][k], rows[i][k]);
  }
  for (int i = 0; i < kChains; ++i) sums[i] = sum[i];
}

/// normalise_row() of `count` rows and the squared lengths afterwards; from `count` on, `rows` are
/// any of them again.
CUPEL_INLINE void lengths_body(float* const* rows, int count, i64 width, bool normalize,
                               float* squares) {
  float sums[kChains];
  if (normalize) {
    float largest[kChains] = {};
    for (int i = 0; i < count; ++i) {
      float* row = rows[i];
      largest[i] = float_from_bits(largest_body<u32>(reinterpret_cast<std::byte*>(row), width));
      if (largest[i] == 0) std::fill_n(row, width, 0.0F);  // no -0
      const float scale = normalising_scale(largest[i]);
      const float second = normalising_scale(largest[i] * scale);
      if (scale == 1.0F && second == 1.0F) continue;
      for (i64 k = 0; k < width; ++k) row[k] = (row[k] * scale) * second;
    }
    chains_body(rows, width, sums);
    for (int i = 0; i < count; ++i) {
      if (largest[i] == 0) continue;
      const float length = __builtin_sqrtf(sums[i]);
      float* row = rows[i];
      for (i64 k = 0; k < width; ++k) row[k] = row[k] / length;
    }
  }
  chains_body(rows, width, sums);
  for (int i = 0; i < count; ++i) squares[i] = sums[i];
}

void round_base(DType type, const std::byte* from, i64 count, float* to) {
  round_body(type, from, count, to);
}
CUPEL_TARGET_V3 void round_v3(DType type, const std::byte* from, i64 count, float* to) {
  round_body(type, from, count, to);
}
void lengths_base(float* const* rows, int count, i64 width, bool normalize, float* squares) {
  lengths_body(rows, count, width, normalize, squares);
}
CUPEL_TARGET_V3 void lengths_v3(float* const* rows, int count, i64 width, bool normalize,
                                float* squares) {
  lengths_body(rows, count, width, normalize, squares);
}

}  // namespace

EmbeddingFaults find_embedding_faults(const ArrayView& embedding, ThreadPool& pool,
                                      const std::function<void(i64, i64)>& done) {
  const MagnitudeLimits limits = limits_of(embedding.dtype);
  const i64 rows = embedding.rows();
  const i64 blocks = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
  std::vector<EmbeddingFaults> of_block(static_cast<std::size_t>(blocks));
  pool.parallel_for(blocks, [&](int, i64 block) {
    const i64 first = block * kRowsAtOnce;
    const i64 count = std::min(kRowsAtOnce, rows - first);
    EmbeddingFaults& faults = of_block[static_cast<std::size_t>(block)];
    const auto look = [&](auto zero) {
      using U = decltype(zero);
      U largest[kRowsAtOnce];
      row_largest<U>(embedding, first, count, largest);
      for (i64 i = 0; i < count; ++i) {
        if (largest[i] >= limits.bad) faults.bad.push_back(first + i);
        if (largest[i] < limits.nonzero) faults.zero.push_back(first + i);
      }
    };
    switch (dtype_size(embedding.dtype)) {
      case 2:
        look(u16{});
        break;
      case 4:
        look(u32{});
        break;
      default:
        look(u64{});
    }
    if (done) done(first, first + count);
  });
  EmbeddingFaults all;
  for (const EmbeddingFaults& faults : of_block) {
    all.bad.insert(all.bad.end(), faults.bad.begin(), faults.bad.end());
    all.zero.insert(all.zero.end(), faults.zero.begin(), faults.zero.end());
  }
  return all;
}

void take_rows(const ArrayView& embedding, std::span<const RowMove> moves, i64 stride,
               bool normalize, float* squares) {
  const i64 width = embedding.cols();
  const DType type = embedding.dtype;
  const bool wide = cpu_level() >= CpuLevel::kV3;
  const bool rows_lie_together = width == 1 || embedding.strides[1] == embedding.item_bytes;
  if (rows_lie_together) {
    for (const RowMove& move : moves) {
      (wide ? round_v3 : round_base)(type, embedding.at(move.from), width, move.to);
    }
  } else {
    // Column by column, as they lie.
    for (i64 k = 0; k < width; ++k) {
      for (const RowMove& move : moves) {
        move.to[k] = rounded_element(type, embedding.at(move.from, k));
      }
    }
  }
  for (std::size_t first = 0; first < moves.size(); first += kChains) {
    const auto count = static_cast<int>(std::min<std::size_t>(kChains, moves.size() - first));
    float* rows[kChains];
    for (int i = 0; i < kChains; ++i) {
      rows[i] = moves[first + static_cast<std::size_t>(i < count ? i : 0)].to;
    }
    (wide ? lengths_v3 : lengths_base)(rows, count, width, normalize, squares + first);
    for (int i = 0; i < count; ++i) std::fill_n(rows[i] + width, stride - width, 0.0F);
  }
}

}  // namespace cupel
