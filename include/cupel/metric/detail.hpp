// A small tree of values: what a result holds beyond its number. Sinks print it; nothing computes
// with it.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "cupel/core/int.hpp"

namespace cupel {

/// null, a flag, an integer, a number (infinities allowed, NaN not), a text, a list, or an object
/// whose keys keep their order.
class Detail {
 public:
  using List = std::vector<Detail>;
  using Object = std::vector<std::pair<std::string, Detail>>;

  Detail() = default;
  Detail(bool flag) : held_(flag) {}
  Detail(i64 number) : held_(number) {}
  Detail(u64 number) : held_(static_cast<i64>(number)) {}
  Detail(int number) : held_(i64{number}) {}
  Detail(double number) : held_(number) {}
  Detail(const char* text) : held_(std::string(text)) {}
  Detail(std::string text) : held_(std::move(text)) {}
  Detail(List list) : held_(std::move(list)) {}
  Detail(Object object) : held_(std::move(object)) {}

  const auto& held() const { return held_; }
  bool operator==(const Detail&) const = default;

 private:
  std::variant<std::monostate, bool, i64, double, std::string, List, Object> held_;
};

}  // namespace cupel
