// Unsigned integers of several 64-bit limbs: sums of weighted pairs and exact comparisons of
// fractions need more than 128 bits. Only what cupel uses: widen, add, multiply, compare.
#pragma once

#include "cupel/core/int.hpp"

namespace cupel {

/// An unsigned integer of 64*N bits, least significant limb first. Addition wraps modulo 2^(64*N).
template <int N>
struct Wide {
  u64 limb[N];

  CUPEL_HD friend bool operator==(const Wide& a, const Wide& b) {
    for (int i = 0; i < N; ++i) {
      if (a.limb[i] != b.limb[i]) return false;
    }
    return true;
  }
  CUPEL_HD friend bool operator!=(const Wide& a, const Wide& b) { return !(a == b); }
  CUPEL_HD friend bool operator<(const Wide& a, const Wide& b) {
    for (int i = N - 1; i >= 0; --i) {
      if (a.limb[i] != b.limb[i]) return a.limb[i] < b.limb[i];
    }
    return false;
  }
  CUPEL_HD Wide& operator+=(const Wide& b) {
    u64 carry = 0;
    for (int i = 0; i < N; ++i) {
      const u128 sum = static_cast<u128>(limb[i]) + b.limb[i] + carry;
      limb[i] = static_cast<u64>(sum);
      carry = static_cast<u64>(sum >> 64);
    }
    return *this;
  }
  CUPEL_HD friend Wide operator+(Wide a, const Wide& b) { return a += b; }
};

using U256 = Wide<4>;

/// `value` in N limbs.
template <int N>
CUPEL_HD inline Wide<N> widen(u128 value) {
  static_assert(N >= 2);
  Wide<N> wide{};
  wide.limb[0] = static_cast<u64>(value);
  wide.limb[1] = static_cast<u64>(value >> 64);
  return wide;
}

/// The exact product, in as many limbs as both factors have together.
template <int A, int B>
CUPEL_HD inline Wide<A + B> multiply(const Wide<A>& a, const Wide<B>& b) {
  Wide<A + B> product{};
  for (int i = 0; i < A; ++i) {
    u64 carry = 0;
    for (int j = 0; j < B; ++j) {
      // (2^64-1)^2 + 2*(2^64-1) = 2^128-1: the sum fits.
      const u128 sum = static_cast<u128>(a.limb[i]) * b.limb[j] + product.limb[i + j] + carry;
      product.limb[i + j] = static_cast<u64>(sum);
      carry = static_cast<u64>(sum >> 64);
    }
    product.limb[i + B] = carry;
  }
  return product;
}

/// The exact 256-bit product of two 128-bit integers.
CUPEL_HD inline U256 multiply(u128 a, u128 b) { return multiply(widen<2>(a), widen<2>(b)); }

/// a - b; requires b <= a.
template <int N>
CUPEL_HD inline Wide<N> subtract(Wide<N> a, const Wide<N>& b) {
  u64 borrow = 0;
  for (int i = 0; i < N; ++i) {
    const u128 difference = static_cast<u128>(a.limb[i]) - b.limb[i] - borrow;
    a.limb[i] = static_cast<u64>(difference);
    borrow = static_cast<u64>(difference >> 64) & 1;
  }
  return a;
}

/// Position of the highest set bit plus one; 0 for zero.
CUPEL_HD inline int bit_length(u64 value) {
  int bits = 0;
  for (int step = 32; step > 0; step /= 2) {
    if ((value >> step) != 0) {
      value >>= step;
      bits += step;
    }
  }
  return value != 0 ? bits + 1 : 0;
}
CUPEL_HD inline int bit_length(u128 value) {
  const u64 high = static_cast<u64>(value >> 64);
  return high != 0 ? 64 + bit_length(high) : bit_length(static_cast<u64>(value));
}
template <int N>
CUPEL_HD inline int bit_length(const Wide<N>& value) {
  for (int i = N - 1; i >= 0; --i) {
    if (value.limb[i] != 0) return 64 * i + bit_length(value.limb[i]);
  }
  return 0;
}

/// value * 2^shift, bits beyond the top lost; 0 <= shift.
template <int N>
CUPEL_HD inline Wide<N> shift_left(const Wide<N>& value, int shift) {
  Wide<N> shifted{};
  const int limbs = shift / 64;
  const int bits = shift % 64;
  for (int i = N - 1; i >= limbs; --i) {
    shifted.limb[i] = value.limb[i - limbs] << bits;
    if (bits != 0 && i - limbs - 1 >= 0)
      shifted.limb[i] |= value.limb[i - limbs - 1] >> (64 - bits);
  }
  return shifted;
}

}  // namespace cupel
