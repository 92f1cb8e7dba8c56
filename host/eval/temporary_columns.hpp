// Columns that are passed to a backend and do not live as long as it holds columns.
#pragma once

#include "cupel/backend/backend.hpp"

namespace cupel {

/// Declared behind such columns: when they go the backend forgets them, so that what comes to lie
/// at their addresses is not taken for them.
class TemporaryColumns {
 public:
  explicit TemporaryColumns(Backend& backend) : backend_(backend) {}
  ~TemporaryColumns() { backend_.forget_columns(); }
  TemporaryColumns(const TemporaryColumns&) = delete;
  TemporaryColumns& operator=(const TemporaryColumns&) = delete;

 private:
  Backend& backend_;
};

}  // namespace cupel
