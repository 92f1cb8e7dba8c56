// Whether backends give the same bytes: every state, of rows of every type and layout, at sizes
// where blocks, warps and grids end. What `cupel selftest` runs, and the tests of a backend.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/backend/choose.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

enum class SelftestState : u8 {
  kRankTables,
  kRankSummaries,
  kRowSums,
  kTemperedSums,
  kPairSums,
  kConformalScores,
  kConformalSets,
  kEmbeddingPairs,
  kBadScores
};
inline constexpr int kSelftestStates = 9;
/// "rank tables", "rank summaries", "row sums", "tempered sums" (multiclass logits only), "pair
/// sums" (multiclass of few rows), "conformal scores" and "conformal sets" (binary and multiclass:
/// all of few rows, some of up to 5,000 rows or 7,000 classes), "embedding pairs" (multiclass of
/// few rows), "bad scores".
std::string_view selftest_state_name(SelftestState state);

struct SelftestOptions {
  bool quick = false;  ///< a tenth of the cases, none of more than 5,000 rows
  bool large = false;  ///< 2^31 + 1 rows of an 8-bit score too, where memory allows
  u64 seed = 1;        ///< of the rows; the cases are the same for every seed
};

/// How one backend did with one state.
struct SelftestLine {
  SelftestState state = SelftestState::kRankTables;
  i64 cases = 0;
  i64 different = 0;
  std::string first_difference;  ///< the case, then what differs; empty: nothing does
};

struct SelftestReport {
  std::vector<SelftestLine> lines;  ///< one per state
  std::string
      large;  ///< why the large case was left out though it was asked for; empty: it was not
  bool equal() const;
  i64 cases() const;
};

/// Computes every state of every case on the reference and on each candidate, and compares the
/// bytes of encode() (summaries field by field, but for `distinct`). A candidate that refuses a
/// case differs, unless the reference refuses it in the same words. One report per candidate.
///
/// Cases cover binary (probabilities, logits), multiclass (probabilities, logits) and multilabel
/// tables, every score type, no weights and those of both types, one cell and several, aligned,
/// unaligned and strided columns, slices, mixed scores, all ties, one class only, and scores that
/// are NaN or infinite at the first, the last and inner rows; sizes 0, 1, 31 to 33, 255 to 257,
/// 4,095 to 4,097 and 2^20 + 1. Cost: seconds on two cores; memory below 100 MB (large: 20 GB).
std::vector<SelftestReport> run_selftest(Backend& reference, std::span<Backend* const> candidates,
                                         const SelftestOptions& options = {});
SelftestReport run_selftest(Backend& reference, Backend& candidate,
                            const SelftestOptions& options = {});

struct SelftestCandidate {
  std::string name;  ///< "cpu, 2 threads", "cuda:0", "cuda:0, in batches", ", in parts"
  std::unique_ptr<Backend> backend;
};
struct SelftestCandidates {
  std::vector<SelftestCandidate> backends;
  std::string no_device;  ///< why none of them is a device; empty: one is, or none was asked for
};

/// What to compare with the CPU with one thread on this machine: `auto` and `cpu` the CPU with more
/// threads, `auto` also every usable device, alone, with tables cut into batches, and with tables
/// that come in small parts, and all of them together; `cuda` and `cuda:N` the devices alone.
/// Devices do not fall back to the CPU here: what they cannot compute is a difference. Errors:
/// those of choose_backend().
Result<SelftestCandidates> selftest_candidates(const BackendChoice& choice);

}  // namespace cupel
