// Expected failures are values: an Error has a place, a problem and a next step, and Result<T>
// carries either a value or an Error. Bugs are CUPEL_ASSERT.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "cupel/core/config.hpp"

namespace cupel {

/// What went wrong, as the exit code that the command line returns for it.
enum class ErrorCode : int {
  kGate = 1,       ///< a gate failed
  kUsage = 2,      ///< the call or the configuration is wrong
  kInput = 3,      ///< unreadable, malformed, wrong domain, nothing found
  kBackend = 5,    ///< a backend that was asked for by name is not usable
  kInternal = 70,  ///< cupel broke a promise, or the machine ran out of something
};

/// A failure to show to a person: `where: what; hint`. `where` and `hint` may be empty.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string where;
  std::string what;
  std::string hint;

  /// One line: place first, then the problem, then the next step.
  std::string text() const {
    std::string line;
    if (!where.empty()) line += where + ": ";
    line += what;
    if (!hint.empty()) line += "; " + hint;
    return line;
  }
  bool operator==(const Error&) const = default;
};

inline Error usage_error(std::string what, std::string hint = {}) {
  return {ErrorCode::kUsage, {}, std::move(what), std::move(hint)};
}
inline Error input_error(std::string where, std::string what, std::string hint = {}) {
  return {ErrorCode::kInput, std::move(where), std::move(what), std::move(hint)};
}

/// Either a T or the Error that prevented it. value() and error() require that ok() was asked.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : held_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : held_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return held_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return *check(std::get_if<0>(&held_)); }
  const T& value() const& { return *check(std::get_if<0>(&held_)); }
  T&& value() && { return std::move(*check(std::get_if<0>(&held_))); }
  const Error& error() const { return *check(std::get_if<1>(&held_)); }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  template <class P>
  static P* check(P* pointer) {
    CUPEL_ASSERT(pointer != nullptr);
    return pointer;
  }
  std::variant<T, Error> held_;
};

/// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : held_(std::move(error)) {}
  bool ok() const { return held_.index() == 0; }
  explicit operator bool() const { return ok(); }
  const Error& error() const {
    CUPEL_ASSERT(!ok());
    return *std::get_if<1>(&held_);
  }

 private:
  std::variant<std::monostate, Error> held_;
};

}  // namespace cupel
