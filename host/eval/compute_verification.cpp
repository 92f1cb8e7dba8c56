#include "eval/compute_verification.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "eval/embedding_matrix.hpp"
#include "eval/group_view.hpp"
#include "eval/pair_plan.hpp"
#include "eval/scopes.hpp"
#include "eval/scored_pairs.hpp"
#include "eval/verification_entry.hpp"

namespace cupel {
namespace {

/// How rows become pairs.
struct Geometry {
  PairDomain domain = PairDomain::kL2;
  bool normalize = true;
  bool operator==(const Geometry&) const = default;
};

class VerificationComputer {
 public:
  VerificationComputer(std::span<const PreparedTable> parts, const ComputeRequest& request,
                       Backend& backend, std::vector<std::string>& states, const PairLimits& limits)
      : parts_(parts), request_(request), backend_(backend), states_(states), limits_(limits) {
    work_.told = request.pairs_progress;
  }

  Result<std::vector<EvalResult>> run() {
    cells_ = unite_cells(parts_);
    scopes_ = make_scopes(cells_.keys, request_.group_columns, request_.intersect);
    auto planned = plan_verification(parts_, request_);
    if (!planned) return planned.error();
    entries_ = std::move(*planned);
    for (VerificationEntry& entry : entries_) {
      entry.values.resize(scopes_.all.size());
      entry.by_class.resize(scopes_.all.size());
    }
    if (has_scores(*parts_.front().verification)) {
      if (auto done = compute_scored(); !done) return done.error();
      return verification_results(entries_, scopes_);
    }
    std::vector<Geometry> geometries;
    for (const VerificationEntry& entry : entries_) {
      if (std::find(geometries.begin(), geometries.end(), geometry(entry)) == geometries.end()) {
        geometries.push_back(geometry(entry));
      }
    }
    plan_work(geometries.size());
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      if (auto done = compute_scope(s, geometries); !done) return done.error();
    }
    return verification_results(entries_, scopes_);
  }

 private:
  Geometry geometry(const VerificationEntry& entry) const {
    Geometry own{request_.domain.value_or(PairDomain::kL2),
                 request_.normalize_embedding.value_or(true)};
    if (const auto& query = entry.needs.verification) {
      own.domain = query->domain.value_or(own.domain);
      own.normalize = query->normalize.value_or(own.normalize);
    }
    return own;
  }

  /// At least one pass over the pairs of each scope, for each geometry.
  void plan_work(std::size_t geometries) {
    std::vector<u64> rows(cells_.keys.size(), 0);
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      for (i64 i = 0; i < parts_[p].verification->rows; ++i) {
        const u32 cell = parts_[p].view.cells == nullptr ? 0 : parts_[p].view.cells[i];
        ++rows[cells_.of_part[p][cell]];
      }
    }
    for (const Scope& scope : scopes_.all) {
      u64 all = 0;
      for (const u32 cell : scope.cells) all += rows[cell];
      if (all > 1) work_.planned += all * (all - 1) / 2 * geometries;
    }
  }

  Result<void> compute_scope(std::size_t s, const std::vector<Geometry>& geometries) {
    EmbeddingSelection selection{parts_, cells_.of_part, {}};
    selection.wanted.assign(cells_.keys.size(), false);
    for (const u32 cell : scopes_.all[s].cells) selection.wanted[cell] = true;
    for (const bool normalize : {true, false}) {
      std::optional<EmbeddingMatrix> matrix;
      for (const Geometry& own : geometries) {
        if (own.normalize != normalize) continue;
        if (!matrix) {
          auto made = EmbeddingMatrix::make(selection, own.domain, normalize, request_.memory,
                                            request_.threads);
          if (!made) return made.error();
          matrix.emplace(std::move(*made));
        }
        if (auto done = compute_geometry(s, own, *matrix); !done) return done.error();
      }
    }
    return {};
  }

  Result<void> compute_geometry(std::size_t s, const Geometry& own, const EmbeddingMatrix& matrix) {
    EmbeddingView view = matrix.view();
    view.domain = own.domain;  // rows are the same
    std::vector<VerificationEntry*> entries;
    for (VerificationEntry& entry : entries_) {
      if (geometry(entry) == own) entries.push_back(&entry);
    }
    VerificationQuestions asked = questions_of(entries);
    PairRunner runner(backend_, view, request_.threads, work_);
    auto answers =
        answer_pairs(view, matrix.class_rows(), asked.questions, limits_, request_.threads, runner);
    if (!answers) return answers.error();
    if (s == 0) states_.push_back(answers->plan);
    VerificationEvidence evidence;
    evidence.domain = own.domain;
    evidence.normalize = own.normalize;
    evidence.rows = static_cast<u64>(view.rows);
    evidence.pos = matrix.positive_pairs();
    evidence.neg = matrix.negative_pairs();
    evidence.class_names = matrix.class_names();
    evidence.class_rows = matrix.class_rows();
    finish_entries(entries, asked, *answers, evidence, s, request_.by_class);
    return {};
  }

  Result<void> compute_scored() {
    std::vector<VerificationEntry*> entries;
    for (VerificationEntry& entry : entries_) entries.push_back(&entry);
    const VerificationQuestions asked = questions_of(entries);
    auto pairs = ScoredPairs::make(parts_, cells_, request_.threads, backend_);
    if (!pairs) return pairs.error();
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      auto answers = pairs->answer(scopes_.all[s].cells, asked.questions);
      if (!answers) return answers.error();
      VerificationEvidence evidence;
      evidence.domain = pairs->domain();
      evidence.scored = true;
      evidence.pos = answers->pos;
      evidence.neg = answers->neg;
      evidence.class_names = pairs->class_names();
      finish_entries(entries, asked, answers->pairs, evidence, s, request_.by_class);
      if (s == 0) {
        states_.push_back(fmt::format("a ranking of {} pairs with scores x {} cell{}",
                                      answers->pos + answers->neg, cells_.keys.size(),
                                      cells_.keys.size() == 1 ? "" : "s"));
      }
    }
    return {};
  }

  std::span<const PreparedTable> parts_;
  const ComputeRequest& request_;
  Backend& backend_;
  std::vector<std::string>& states_;
  PairLimits limits_;
  PairWork work_;
  UnitedCells cells_;
  Scopes scopes_;
  std::vector<VerificationEntry> entries_;
};

}  // namespace

PairLimits pair_limits(i64 memory) {
  constexpr i64 kDefault = 1'250'000'000;
  PairLimits limits;
  limits.bytes = memory > 0 ? std::max<i64>(memory / 2, 1) : kDefault;
  return limits;
}

Result<std::vector<EvalResult>> compute_verification(std::span<const PreparedTable> parts,
                                                     const ComputeRequest& request,
                                                     Backend& backend,
                                                     std::vector<std::string>& states) {
  return compute_verification(parts, request, backend, states, pair_limits(request.memory));
}

Result<std::vector<EvalResult>> compute_verification(std::span<const PreparedTable> parts,
                                                     const ComputeRequest& request,
                                                     Backend& backend,
                                                     std::vector<std::string>& states,
                                                     const PairLimits& limits) {
  return VerificationComputer(parts, request, backend, states, limits).run();
}

}  // namespace cupel
