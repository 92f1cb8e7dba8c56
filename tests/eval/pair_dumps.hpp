// Dumps of embeddings and of pairs, opened and prepared.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../io/fixtures.hpp"
#include "eval/embedding_matrix.hpp"
#include "eval/prepare_verification.hpp"
#include "eval/roles.hpp"

namespace cupel {

/// Arrays of an npz file.
struct Arrays {
  std::vector<fixtures::ZipMember> members;

  Arrays& raw(const std::string& name, const std::string& descr, const std::string& shape,
              const std::string& data, bool fortran = false) {
    members.push_back({name + ".npy", fixtures::npy(descr, shape, data, fortran)});
    return *this;
  }
  template <class T>
  Arrays& add(const std::string& name, const std::string& descr, const std::vector<T>& values,
              i64 width = 0) {
    const auto count = static_cast<i64>(values.size());
    const std::string shape =
        width == 0 ? "(" + std::to_string(count) + ",)"
                   : "(" + std::to_string(count / width) + ", " + std::to_string(width) + ")";
    return raw(name, descr, shape, fixtures::le_all(values));
  }
  Arrays& floats(const std::string& name, const std::vector<float>& values, i64 width = 0) {
    return add(name, "<f4", values, width);
  }
  Arrays& doubles(const std::string& name, const std::vector<double>& values, i64 width = 0) {
    return add(name, "<f8", values, width);
  }
  Arrays& integers(const std::string& name, const std::vector<i64>& values) {
    return add(name, "<i8", values);
  }
  /// Fixed-width bytes, which is how NumPy keeps short texts.
  Arrays& texts(const std::string& name, const std::vector<std::string>& values) {
    std::string data;
    for (std::string value : values) {
      value.resize(4);
      data += value;
    }
    return raw(name, "|S4", "(" + std::to_string(values.size()) + ",)", data);
  }
  std::string bytes() const { return fixtures::zip(members); }
};

/// An open dump, its columns, and its rows.
struct PreparedPairs {
  std::unique_ptr<Dump> dump;
  Binding binding;
  PreparedTable table;

  const VerificationRows& rows() const { return *table.verification; }
};

inline Result<PreparedPairs> prepare_pairs(const Arrays& arrays, const EvalRequest& request = {},
                                           i64 first_row = 0) {
  PreparedPairs made;
  auto dump = fixtures::open_as("npz", "d.npz", arrays.bytes());
  if (!dump) return dump.error();
  made.dump = std::move(*dump);
  auto binding = bind_roles(*made.dump, request);
  if (!binding) return binding.error();
  made.binding = std::move(*binding);
  auto table = prepare_verification(made.binding, request, first_row, {});
  if (!table) return table.error();
  made.table = std::move(*table);
  return made;
}

/// The text of the error; empty where there is none.
inline std::string problem_of(const Arrays& arrays, const EvalRequest& request = {}) {
  const auto made = prepare_pairs(arrays, request);
  return made.ok() ? std::string() : made.error().text();
}

}  // namespace cupel
