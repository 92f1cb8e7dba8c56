// Labels of any type as classes: what a label is called, and the order of these names.
#pragma once

#include <initializer_list>
#include <string>
#include <unordered_map>
#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/core/column.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

/// Sorts names and removes those that are there twice: as texts, bytewise, or, where all are those
/// of numbers, by value. Integers are compared exactly, beyond 2^53 too. Cost: O(n log n).
void sort_class_names(std::vector<std::string>& names, bool numeric);
/// Where a name is in such a list; it has to be there.
u32 find_class_name(const std::vector<std::string>& names, bool numeric, const std::string& name);

/// Gathers the classes of one or more label columns. A label is known by its text: a number is
/// written as an integer where it is one below 2^64 (1, 1.0 and true are one class), so that
/// columns of different types agree.
class ClassReader {
 public:
  /// The class of a row whose label is missing: NaN, infinite, an empty text.
  static constexpr u32 kMissing = 0xFFFF'FFFFu;

  /// The class of each of the first `rows` labels of a one-dimensional column, numbered as they
  /// come. Errors (kUsage): 2^31 classes. Cost: O(n).
  Result<Buffer<u32>> read(const ArrayView& column, i64 rows);

  /// Whether all columns so far hold numbers.
  bool numeric() const { return numeric_; }
  /// The names in their order; `classes` of read() are renumbered to it. Call once, at the end.
  std::vector<std::string> finish(std::initializer_list<Buffer<u32>*> classes);

 private:
  u32 number_of(const std::string& name);

  std::unordered_map<std::string, u32> numbers_;
  std::vector<std::string> names_;
  bool numeric_ = true;
};

}  // namespace cupel
