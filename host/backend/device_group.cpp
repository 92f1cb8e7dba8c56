#include "backend/device_group.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <thread>
#include <utility>

#include "cupel/math/pair_kernel.hpp"

namespace cupel {
namespace {

/// Halvings of a device's pieces within one call, before a piece goes to the CPU.
constexpr int kMostHalvings = 2;
/// Pieces of so many rows at least that there are no more than this when their size is given.
constexpr i64 kMostBatches = 4096;
/// Tables of pieces that are kept until they can be merged.
constexpr i64 kPieceTableBytes = i64{1} << 30;

/// Pairs of rows that a device is asked for: fewer take the CPU less than a copy does. A guess.
constexpr double kLeastDevicePairs = 1e6;
/// Fused operations of pairs of an embedding that a device is asked for. A guess.
constexpr double kLeastDeviceProducts = 1e9;
/// Parts of the pairs of an embedding for each of several devices.
constexpr i64 kPairPartsEach = 4;

constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

/// 8388608 as "8,388,608".
std::string grouped(i64 number) {
  std::string digits = std::to_string(number);
  for (i64 at = static_cast<i64>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

std::string counted(i64 number, std::string_view thing) {
  return fmt::format("{} {}{}", grouped(number), thing, number == 1 ? "" : "s");
}

/// Some problems of some rows.
struct Piece {
  i64 first = 0;  ///< problems
  i64 last = 1;
  i64 row = 0;
  i64 rows = 0;
  bool by_rows = false;  ///< what does not fit is cut by rows; else by problems, with all rows
  i64 even = 0;  ///< the size that was chosen for its parts, when it was first cut; 0: not yet

  i64 problems() const { return last - first; }
};

/// A device, and what is known of it.
struct Slot {
  std::string name;
  std::function<Result<std::unique_ptr<DeviceBackend>>()> open;
  std::unique_ptr<DeviceBackend> device;
  std::string about;   ///< its info().device, kept for when it may not be called any more
  std::string reason;  ///< why it could not be opened
  bool alive = true;
  bool computed = false;
  // Of one call:
  int halvings = 0;
  i64 most_rows = std::numeric_limits<i64>::max();

  /// Rows that a piece may have, by what the device takes and what was too much for it.
  i64 row_limit() const { return std::min(most_rows, device->most_rows()); }
};

/// One pass over a table: how it may be cut, and what is done with a piece.
struct Work {
  const TableView& table;
  /// Problems are ranked: memory grows with them, and a piece may have some of them.
  bool ranks = false;
  /// Computes a piece on a backend and keeps the result. May be called by several threads at once,
  /// for different pieces and backends.
  std::function<Result<void>(Backend&, const Piece&)> compute;
};

/// Pieces that wait for a device.
class Queue {
 public:
  Queue(const Work& work, const Piece& whole) : work_(work) { pieces_.push_back(whole); }

  /// A part of the first piece that fits `slot`, of which the device has `free_bytes` free; none
  /// when nothing is left, or an error has made the rest pointless. `devices` share the work.
  std::optional<Piece> take(const Slot& slot, i64 free_bytes, i64 batch_rows, i64 devices) {
    const std::lock_guard lock(mutex_);
    if (error_ || pieces_.empty()) return std::nullopt;
    const auto fitting = [&](i64 problems) {
      i64 rows = batch_rows;
      if (rows <= 0) {
        const i64 each = slot.device->bytes_per_row(work_.table, work_.ranks ? problems : 0);
        rows = free_bytes / std::max<i64>(each, 1);
      }
      return std::clamp<i64>(rows, 1, slot.row_limit());
    };
    if (!pieces_.front().by_rows) {
      Piece& front = pieces_.front();
      const i64 most = most_problems(front, fitting);
      if (most >= front.problems() && front.even == 0) return pop();
      if (most > 0) {
        if (front.even == 0) front.even = even_size(front.problems(), most, devices);
        return cut_problems(std::min(most, front.even));
      }
      // The tables of a block are kept until all its rows are done: not too many problems at once.
      const i64 table_size = front.rows * (key_bits(score_kind(work_.table)) == 64 ? 8 : 4);
      const i64 block =
          std::clamp<i64>(kPieceTableBytes / std::max<i64>(table_size, 1), 1, front.problems());
      Piece rows = cut_problems(block);
      rows.by_rows = true;
      rows.even = 0;
      pieces_.push_front(rows);
    }
    Piece& front = pieces_.front();
    const i64 most = fitting(front.problems());
    if (front.even == 0) {
      if (most >= front.rows) return pop();
      front.even = even_size(front.rows, most, devices);
    }
    const i64 rows = std::min(most, front.even);
    if (rows >= front.rows) return pop();
    Piece part = front;
    part.rows = rows;
    front.row += rows;
    front.rows -= rows;
    return part;
  }

  /// The first piece as it is.
  std::optional<Piece> take_whole() {
    const std::lock_guard lock(mutex_);
    if (error_ || pieces_.empty()) return std::nullopt;
    return pop();
  }
  /// A piece that turned out too large.
  void put_back(Piece piece) {
    const std::lock_guard lock(mutex_);
    piece.even = 0;
    pieces_.push_front(piece);
  }
  /// Ends the work; the first error stays.
  void fail(const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
  }
  bool at_end() {
    const std::lock_guard lock(mutex_);
    return error_ || pieces_.empty();
  }
  Result<void> outcome() {
    const std::lock_guard lock(mutex_);
    return error_ ? Result<void>(*error_) : Result<void>();
  }

 private:
  /// The most problems of a piece whose rows all fit; more problems never fit more rows.
  template <class Fitting>
  static i64 most_problems(const Piece& piece, const Fitting& fitting) {
    i64 fits = 0;
    i64 beyond = piece.problems() + 1;
    if (fitting(piece.problems()) >= piece.rows) return piece.problems();
    while (beyond - fits > 1) {
      const i64 middle = fits + (beyond - fits) / 2;
      (fitting(middle) >= piece.rows ? fits : beyond) = middle;
    }
    return fits;
  }
  /// The size of equal parts of at most `most`, as many for each device.
  static i64 even_size(i64 size, i64 most, i64 devices) {
    const i64 parts = ceil_div(ceil_div(size, most), devices) * devices;
    return std::max<i64>(ceil_div(size, parts), 1);
  }
  Piece pop() {
    const Piece piece = pieces_.front();
    pieces_.pop_front();
    return piece;
  }
  Piece cut_problems(i64 count) {
    Piece& front = pieces_.front();
    if (count >= front.problems()) return pop();
    Piece part = front;
    part.last = part.first + count;
    front.first = part.last;
    return part;
  }

  const Work& work_;
  std::mutex mutex_;
  std::deque<Piece> pieces_;
  std::optional<Error> error_;
};

/// [problem][cell], of the problems of a piece.
using Tables = std::vector<std::vector<RankTable>>;

/// Tables of pieces of rows until those of all rows are there.
class Blocks {
 public:
  explicit Blocks(i64 rows) : rows_(rows) {}

  /// Hands the tables of a piece to store(problem, cells): at once where they are of all rows,
  /// else, merged, with the last piece of these problems.
  template <class Store>
  Result<void> add(const Piece& piece, Tables tables, const Store& store) {
    if (piece.by_rows) {
      std::unique_lock lock(mutex_);
      Block& block = blocks_[piece.first];
      block.rows += piece.rows;
      block.parts.push_back(std::move(tables));
      if (block.rows < rows_) return {};
      std::vector<Tables> parts = std::move(block.parts);
      blocks_.erase(piece.first);
      lock.unlock();
      return merge(std::move(parts), piece, store);
    }
    for (i64 p = piece.first; p < piece.last; ++p) {
      store(p, std::move(tables[static_cast<std::size_t>(p - piece.first)]));
    }
    return {};
  }

 private:
  struct Block {
    i64 rows = 0;  ///< done
    std::vector<Tables> parts;
  };

  template <class Store>
  static Result<void> merge(std::vector<Tables> parts, const Piece& piece, const Store& store) {
    for (i64 p = piece.first; p < piece.last; ++p) {
      const auto at = static_cast<std::size_t>(p - piece.first);
      std::vector<RankTable> cells;
      for (std::size_t cell = 0; cell < parts.front()[at].size(); ++cell) {
        std::vector<RankTable> own;
        for (Tables& part : parts) own.push_back(std::move(part[at][cell]));
        auto merged = merge_all(std::move(own));
        if (!merged) return merged.error();
        cells.push_back(std::move(*merged));
      }
      store(p, std::move(cells));
    }
    return {};
  }

  i64 rows_;
  std::mutex mutex_;
  std::map<i64, Block> blocks_;  ///< by first problem
};

class Group final : public DeviceGroup {
 public:
  Group(std::vector<GroupDevice> devices, std::function<std::unique_ptr<Backend>()> make_cpu,
        DeviceGroupOptions options)
      : options_(std::move(options)), make_cpu_(std::move(make_cpu)), fallback_(options_.fallback) {
    for (GroupDevice& device : devices) {
      Slot slot;
      slot.name = std::move(device.name);
      slot.open = std::move(device.open);
      slots_.push_back(std::move(slot));
    }
  }

  BackendInfo info() const override {
    BackendInfo info;
    const auto add = [](std::string& to, std::string_view text, std::string_view between) {
      if (!to.empty()) to += between;
      to += text;
    };
    // Nothing was computed yet: an open device is what will.
    const bool none_yet = !cpu_computed_ && std::none_of(slots_.begin(), slots_.end(),
                                                         [](const Slot& s) { return s.computed; });
    std::vector<std::pair<std::string, int>> devices;
    for (const Slot& slot : slots_) {
      const bool counts = slot.computed || (none_yet && slot.alive && slot.device != nullptr);
      if (!counts) continue;
      const auto same = std::find_if(devices.begin(), devices.end(),
                                     [&](const auto& d) { return d.first == slot.about; });
      if (same == devices.end()) {
        devices.emplace_back(slot.about, 1);
      } else {
        ++same->second;
      }
    }
    if (!devices.empty()) info.name = options_.kind;
    for (const auto& [about, count] : devices) {
      add(info.device, count == 1 ? about : fmt::format("{} x {}", count, about), "; ");
    }
    if (cpu_computed_ || devices.empty()) {
      add(info.name, "cpu", "+");
      const std::lock_guard lock(cpu_mutex_);
      add(info.device, cpu().info().device, "; ");
    }
    return info;
  }

  std::string fallback() const override { return fallback_; }

  std::vector<BackendNote> take_weighted_notes() override {
    const std::lock_guard lock(notes_mutex_);
    std::vector<BackendNote> taken;
    for (const auto& [note, times] : notes_) {
      taken.push_back(note);
      if (times > 1) taken.back().text += fmt::format(" ({} times)", grouped(times));
    }
    notes_.clear();
    return taken;
  }

  Result<std::vector<std::vector<RankTable>>> rank_tables(const TableView& table, i64 first,
                                                          i64 last) override {
    if (on_cpu_alone(table)) return cpu_call([&] { return cpu().rank_tables(table, first, last); });
    Tables states(static_cast<std::size_t>(last - first));
    Blocks blocks(table.rows);
    auto done =
        rank(table, first, last,
             [&](Backend& backend, const TableView& rows, const Piece& piece) -> Result<void> {
               auto tables = backend.rank_tables(rows, piece.first, piece.last);
               if (!tables) return tables.error();
               return blocks.add(piece, std::move(*tables), [&](i64 p, std::vector<RankTable> own) {
                 states[static_cast<std::size_t>(p - first)] = std::move(own);
               });
             });
    if (!done) return done.error();
    return states;
  }

  Result<std::vector<RankSummary>> rank_summaries(const TableView& table, i64 first, i64 last,
                                                  std::span<const RankQuery> queries) override {
    if (on_cpu_alone(table)) {
      return cpu_call([&] { return cpu().rank_summaries(table, first, last, queries); });
    }
    TableView one_cell = table;
    one_cell.cells = nullptr;
    one_cell.cell_count = 1;
    Blocks blocks(table.rows);
    std::vector<RankSummary> summaries(static_cast<std::size_t>(last - first));
    const auto summary_of = [&](i64 p) -> RankSummary& {
      return summaries[static_cast<std::size_t>(p - first)];
    };
    auto done =
        rank(one_cell, first, last,
             [&](Backend& backend, const TableView& rows, const Piece& piece) -> Result<void> {
               if (!piece.by_rows) {
                 auto own = backend.rank_summaries(rows, piece.first, piece.last, queries);
                 if (!own) return own.error();
                 for (i64 p = piece.first; p < piece.last; ++p) {
                   summary_of(p) = std::move((*own)[static_cast<std::size_t>(p - piece.first)]);
                 }
                 return {};
               }
               auto tables = backend.rank_tables(rows, piece.first, piece.last);
               if (!tables) return tables.error();
               return blocks.add(piece, std::move(*tables),
                                 [&](i64 p, const std::vector<RankTable>& cells) {
                                   summary_of(p) = summarise(cells[0], queries);
                                 });
             });
    if (!done) return done.error();
    return summaries;
  }

  Result<std::vector<std::vector<RowSums>>> row_sums(const TableView& table,
                                                     const RowSpec& spec) override {
    if (on_cpu_alone(table)) return cpu_call([&] { return cpu().row_sums(table, spec); });
    std::vector<std::vector<RowSums>> sums;
    std::mutex mutex;
    auto done = pass(table, [&](Backend& backend, const TableView& rows) -> Result<void> {
      auto own = backend.row_sums(rows, spec);
      if (!own) return own.error();
      const std::lock_guard lock(mutex);
      if (sums.empty()) {
        sums = std::move(*own);
        return {};
      }
      for (std::size_t p = 0; p < sums.size(); ++p) {
        for (std::size_t cell = 0; cell < sums[p].size(); ++cell) {
          if (auto merged = sums[p][cell].merge((*own)[p][cell]); !merged) return merged.error();
        }
      }
      return {};
    });
    if (!done) return done.error();
    return sums;
  }

  // ---- conformal prediction: pieces of rows, put together in the order of rows ------------------

  Result<ConformalScores> conformal_scores(const TableView& table,
                                           std::span<const ConformalRule> rules,
                                           const std::vector<bool>& wanted, int threads) override {
    if (on_cpu_alone(table)) {
      return cpu_call([&] { return cpu().conformal_scores(table, rules, wanted, threads); });
    }
    std::map<i64, ConformalScores> parts;  // by first row
    std::mutex mutex;
    auto done = pass(table, [&](Backend& backend, const TableView& rows) -> Result<void> {
      auto own = backend.conformal_scores(rows, rules, wanted, threads);
      if (!own) return own.error();
      const std::lock_guard lock(mutex);
      parts.emplace(rows.first_row, std::move(*own));
      return {};
    });
    if (!done) return done.error();
    return in_order<ConformalScores>(parts, [&](ConformalScores& all) {
      for (std::size_t r = 0; r < rules.size(); ++r) {
        all.scores.push_back(joined<i64>(
            parts, [r](ConformalScores& part) -> Buffer<i64>& { return part.scores[r]; }));
      }
    });
  }

  Result<std::vector<std::vector<SetSums>>> conformal_sets(const TableView& table,
                                                           std::span<const ConformalSet> sets,
                                                           const std::vector<bool>& wanted,
                                                           int threads) override {
    if (on_cpu_alone(table)) {
      return cpu_call([&] { return cpu().conformal_sets(table, sets, wanted, threads); });
    }
    std::vector<std::vector<SetSums>> sums;
    std::mutex mutex;
    auto done = pass(table, [&](Backend& backend, const TableView& rows) -> Result<void> {
      auto own = backend.conformal_sets(rows, sets_of_rows(sets, table, rows), wanted, threads);
      if (!own) return own.error();
      const std::lock_guard lock(mutex);
      if (sums.empty()) {
        sums = std::move(*own);
        return {};
      }
      for (std::size_t cell = 0; cell < sums.size(); ++cell) {
        for (std::size_t s = 0; s < sets.size(); ++s) sums[cell][s].merge((*own)[cell][s]);
      }
      return {};
    });
    if (!done) return done.error();
    return sums;
  }

  Result<ConformalRowSets> conformal_row_sets(const TableView& table,
                                              std::span<const ConformalSet> sets,
                                              const std::vector<bool>& wanted,
                                              int threads) override {
    if (on_cpu_alone(table)) {
      return cpu_call([&] { return cpu().conformal_row_sets(table, sets, wanted, threads); });
    }
    std::map<i64, ConformalRowSets> parts;  // by first row
    std::mutex mutex;
    auto done = pass(table, [&](Backend& backend, const TableView& rows) -> Result<void> {
      auto own = backend.conformal_row_sets(rows, sets_of_rows(sets, table, rows), wanted, threads);
      if (!own) return own.error();
      const std::lock_guard lock(mutex);
      parts.emplace(rows.first_row, std::move(*own));
      return {};
    });
    if (!done) return done.error();
    return in_order<ConformalRowSets>(parts, [&](ConformalRowSets& all) {
      for (std::size_t s = 0; s < sets.size(); ++s) {
        all.sets.push_back(joined<u32>(
            parts, [s](ConformalRowSets& part) -> Buffer<u32>& { return part.sets[s]; }));
      }
      all.ranks =
          joined<i32>(parts, [](ConformalRowSets& part) -> Buffer<i32>& { return part.ranks; });
    });
  }

  /// Devices share the rows that pairs begin with; each has the whole table.
  Result<i128> pair_sum(const TableView& table, i64 first, i64 last, double nu) override {
    if (few_pairs(table, last - first)) {
      return cpu_call([&] { return cpu().pair_sum(table, first, last, nu); });
    }
    i128 sum = 0;
    std::mutex mutex;
    auto done = pairs(table, first, last, [&](Backend& backend, i64 from, i64 to) -> Result<void> {
      auto own = backend.pair_sum(table, from, to, nu);
      if (!own) return own.error();
      const std::lock_guard lock(mutex);
      sum += *own;
      return {};
    });
    if (!done) return done.error();
    return sum;
  }
  Result<std::vector<u64>> pair_distances(const TableView& table, i64 first, i64 last,
                                          std::optional<u32> high) override {
    if (few_pairs(table, last - first)) {
      return cpu_call([&] { return cpu().pair_distances(table, first, last, high); });
    }
    std::vector<u64> counts(kDistanceBuckets);
    std::mutex mutex;
    auto done = pairs(table, first, last, [&](Backend& backend, i64 from, i64 to) -> Result<void> {
      auto own = backend.pair_distances(table, from, to, high);
      if (!own) return own.error();
      const std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += (*own)[i];
      return {};
    });
    if (!done) return done.error();
    return counts;
  }

  /// One device takes all; several take parts of the rows that pairs begin with, of about as many
  /// pairs each. What a device cannot do goes to the CPU.
  Result<PairStates> embedding_pairs(const EmbeddingView& view, const PairPass& pass, int threads,
                                     const PairProgress& progress) override {
    const double products = static_cast<double>(pass.pairs()) * static_cast<double>(view.width);
    if (alive().empty() ? options_.may_use_cpu
                        : options_.least_device_bytes > 0 && products < kLeastDeviceProducts) {
      return cpu_call([&] { return cpu().embedding_pairs(view, pass, threads, progress); });
    }
    PairParts parts(view, pass, threads, progress);
    try {
      std::vector<Slot*> slots;
      for (Slot* slot : alive()) {
        if (opened(*slot)) slots.push_back(slot);
      }
      parts.cut(static_cast<i64>(slots.size()));
      std::vector<std::jthread> others;
      for (std::size_t i = 1; i < slots.size(); ++i) {
        others.emplace_back([&, slot = slots[i]] { serve_pairs(*slot, parts); });
      }
      if (!slots.empty()) serve_pairs(*slots.front(), parts);
    } catch (const std::bad_alloc&) {
      return out_of_host_memory();
    } catch (const std::exception& failure) {
      return Error{ErrorCode::kInternal, "", failure.what(), ""};
    }
    settle_unopened();
    while (auto part = parts.take()) {
      if (!options_.may_use_cpu) {
        return Error{ErrorCode::kBackend, "", parts.why(), ""};
      }
      if (auto done = cpu_call([&] { return parts.compute(cpu(), *part); }); !done) {
        return done.error();
      }
    }
    return parts.finish();
  }

  Result<BadScores> bad_scores(const TableView& table) override {
    if (on_cpu_alone(table)) return cpu_call([&] { return cpu().bad_scores(table); });
    BadScores all;
    std::mutex mutex;
    Work work{table, false, [&](Backend& backend, const Piece& piece) -> Result<void> {
                auto own = backend.bad_scores(rows_of(table, piece.row, piece.rows));
                if (!own) return own.error();
                const std::lock_guard lock(mutex);
                all.rows += own->rows;
                if (own->rows == 0) return {};
                const i64 row = piece.row + own->first_row;
                if (all.first_row >= 0 && all.first_row < row) return {};
                all.first_row = row;
                all.first_column = own->first_column;
                return {};
              }};
    if (auto done = run(work, {0, 1, 0, table.rows, true, 0}); !done) return done.error();
    return all;
  }

  void hold_columns(bool hold) override {
    held_ = hold;
    {
      const std::lock_guard lock(cpu_mutex_);
      if (cpu_ != nullptr) cpu_->hold_columns(hold);
    }
    for (Slot& slot : slots_) {
      if (slot.alive && slot.device != nullptr) slot.device->hold_columns(hold);
    }
  }

  void forget_columns() override {
    {
      const std::lock_guard lock(cpu_mutex_);
      if (cpu_ != nullptr) cpu_->forget_columns();
    }
    for (Slot& slot : slots_) {
      if (slot.alive && slot.device != nullptr) slot.device->forget_columns();
    }
  }

  Result<void> open_one() override {
    for (Slot& slot : slots_) {
      if (opened(slot)) return {};
    }
    return Error{ErrorCode::kBackend, "", slots_.empty() ? fallback_ : slots_.front().reason, ""};
  }

 private:
  // ---- where -----------------------------------------------------------------------------------

  std::vector<Slot*> alive() {
    std::vector<Slot*> slots;
    for (Slot& slot : slots_) {
      if (slot.alive) slots.push_back(&slot);
    }
    return slots;
  }

  /// Whether no device takes part in a table from the start.
  bool on_cpu_alone(const TableView& table) {
    if (alive().empty()) return options_.may_use_cpu;
    const i64 bytes = table_bytes(table);
    if (bytes >= options_.least_device_bytes) return false;
    note_once(fmt::format("computed on the CPU: {} are too few to pay for a device (from {})",
                          counted(bytes, "byte"), counted(options_.least_device_bytes, "byte")));
    return true;
  }

  Backend& cpu() const {
    if (cpu_ == nullptr) {
      cpu_ = make_cpu_();
      cpu_->hold_columns(held_);
    }
    return *cpu_;
  }
  template <class Call>
  auto cpu_call(const Call& call) -> decltype(call()) {
    const std::lock_guard lock(cpu_mutex_);
    cpu_computed_ = true;
    return call();
  }

  /// Opens a device that is not open yet; false, with the reason kept, if that fails.
  bool opened(Slot& slot) const {
    if (slot.device != nullptr || !slot.alive) return slot.alive;
    auto device = slot.open();
    if (!device) {
      slot.alive = false;
      slot.reason = device.error().what;
      return false;
    }
    slot.device = std::move(*device);
    slot.about = slot.device->info().device;
    if (held_) slot.device->hold_columns(true);
    return true;
  }

  // ---- passes over a table ---------------------------------------------------------------------

  using RankPiece = std::function<Result<void>(Backend&, const TableView&, const Piece&)>;

  Result<void> rank(const TableView& table, i64 first, i64 last, const RankPiece& compute) {
    if (last <= first) return {};
    Work work{table, true, [&](Backend& backend, const Piece& piece) -> Result<void> {
                if (!piece.by_rows) return compute(backend, table, piece);
                return compute(backend, rows_of(table, piece.row, piece.rows), piece);
              }};
    return run(work, {first, last, 0, table.rows, false, 0});
  }

  template <class Compute>
  Result<void> pass(const TableView& table, const Compute& compute) {
    Work work{table, false, [&](Backend& backend, const Piece& piece) {
                return compute(backend, rows_of(table, piece.row, piece.rows));
              }};
    return run(work, {0, 1, 0, table.rows, true, 0});
  }

  /// Sets for some rows of a table: thresholds by row are those of these rows.
  static std::vector<ConformalSet> sets_of_rows(std::span<const ConformalSet> sets,
                                                const TableView& table, const TableView& rows) {
    std::vector<ConformalSet> own(sets.begin(), sets.end());
    const auto first = static_cast<std::ptrdiff_t>(rows.first_row - table.first_row);
    for (ConformalSet& set : own) {
      if (set.by != ThresholdsBy::kRow) continue;
      set.thresholds = {set.thresholds.begin() + first, set.thresholds.begin() + first + rows.rows};
    }
    return own;
  }

  /// What parts of rows, by first row, make up together; one part is it already.
  template <class Whole, class Join>
  static Result<Whole> in_order(std::map<i64, Whole>& parts, const Join& join) {
    if (parts.size() == 1) return std::move(parts.begin()->second);
    try {
      Whole all;
      join(all);
      for (const auto& part : parts) all.outside_unit += part.second.outside_unit;
      return all;
    } catch (const std::bad_alloc&) {
      return out_of_host_memory();
    }
  }
  /// A column of all parts, whose own are given up.
  template <class T, class Part, class Of>
  static Buffer<T> joined(std::map<i64, Part>& parts, const Of& of) {
    Buffer<T> all;
    std::size_t size = 0;
    for (auto& part : parts) size += of(part.second).size();
    all.reserve(size);
    for (auto& part : parts) {
      Buffer<T>& own = of(part.second);
      all.insert(all.end(), own.begin(), own.end());
      own = {};
    }
    return all;
  }

  /// Whether no device takes part in pairs of rows: their work, not their bytes, is what counts.
  bool few_pairs(const TableView& table, i64 rows) {
    if (alive().empty()) return options_.may_use_cpu;
    if (options_.least_device_bytes == 0) return false;
    return static_cast<double>(table.rows) * static_cast<double>(rows) < kLeastDevicePairs;
  }

  template <class Compute>
  Result<void> pairs(const TableView& table, i64 first, i64 last, const Compute& compute) {
    if (last <= first) return {};
    Work work{table, false, [&](Backend& backend, const Piece& piece) {
                return compute(backend, piece.row, piece.row + piece.rows);
              }};
    return run(work, {0, 1, first, last - first, true, 0});
  }

  // ---- who does which piece --------------------------------------------------------------------

  Result<void> run(const Work& work, const Piece& whole) {
    Queue queue(work, whole);
    for (Slot& slot : slots_) {
      slot.halvings = 0;
      slot.most_rows = std::numeric_limits<i64>::max();
    }
    try {
      while (!queue.at_end()) one_round(work, queue);
    } catch (const std::bad_alloc&) {
      queue.fail(out_of_host_memory());
    } catch (const std::exception& failure) {
      queue.fail({ErrorCode::kInternal, "", failure.what(), ""});
    }
    settle_unopened();
    return queue.outcome();
  }

  static Error out_of_host_memory() {
    return {ErrorCode::kInternal, "", "out of memory on the host",
            "evaluate fewer columns or rows at a time, or pass a smaller --mem"};
  }

  /// The first device as long as it takes pieces whole, all devices for what has to be cut, the CPU
  /// when no device is left.
  void one_round(const Work& work, Queue& queue) {
    const std::vector<Slot*> slots = alive();
    if (slots.empty()) {
      if (auto piece = queue.take_whole()) on_cpu(work, queue, *piece, "no device is left");
      return;
    }
    const auto devices = static_cast<i64>(slots.size());
    if (devices == 1 || first_takes_all(*slots.front(), work, queue)) {
      serve(*slots.front(), work, queue, devices, devices > 1);
      return;
    }
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < slots.size(); ++i) {
      threads.emplace_back([&, slot = slots[i]] { serve(*slot, work, queue, devices, false); });
    }
    serve(*slots.front(), work, queue, devices, false);
  }

  bool first_takes_all(Slot& slot, const Work& work, Queue& queue) {
    if (!opened(slot)) return true;  // serve() finds it dead, and the next round asks the next one
    auto piece = queue.take_whole();
    if (!piece) return true;
    queue.put_back(*piece);
    if (options_.batch_rows > 0) {
      return piece->rows <= std::min(batch_rows(work), slot.row_limit());
    }
    const i64 each = slot.device->bytes_per_row(work.table, work.ranks ? piece->problems() : 0);
    return piece->rows <=
           std::clamp<i64>(slot.device->free_bytes() / std::max<i64>(each, 1), 1, slot.row_limit());
  }

  /// The size of pieces that was asked for; 0: none was.
  i64 batch_rows(const Work& work) const {
    if (options_.batch_rows <= 0) return 0;
    return std::max(options_.batch_rows, ceil_div(work.table.rows, kMostBatches));
  }

  /// Takes pieces until none is left, the device fails, or, with `one`, one piece was tried.
  void serve(Slot& slot, const Work& work, Queue& queue, i64 devices, bool one) {
    try {
      if (!opened(slot)) return;
      do {
        const i64 free_bytes = options_.batch_rows > 0 ? 0 : slot.device->free_bytes();
        const auto piece = queue.take(slot, free_bytes, batch_rows(work), devices);
        if (!piece) return;
        if (auto done = work.compute(*slot.device, *piece); !done) {
          recover(slot, work, queue, *piece, done.error());
        } else {
          slot.computed = true;
        }
      } while (slot.alive && !one);
    } catch (const std::bad_alloc&) {
      queue.fail(out_of_host_memory());
    } catch (const std::exception& failure) {
      queue.fail({ErrorCode::kInternal, "", failure.what(), ""});
    }
  }

  void recover(Slot& slot, const Work& work, Queue& queue, const Piece& piece, const Error& error) {
    switch (slot.device->trouble()) {
      case DeviceTrouble::kNone:
        queue.fail(error);
        return;
      case DeviceTrouble::kOutOfMemory: {
        const std::string what =
            fmt::format("{}: out of memory at {}", slot.name, counted(piece.rows, "row"));
        if (slot.halvings < kMostHalvings && piece.rows > 1) {
          ++slot.halvings;
          slot.most_rows = ceil_div(piece.rows, 2);
          note(fmt::format("{}, trying {}", what, grouped(slot.most_rows)), false);
          queue.put_back(piece);
          return;
        }
        if (options_.may_use_cpu) note(what + ", computed on the CPU", true);
        on_cpu(work, queue, piece, what);
        return;
      }
      case DeviceTrouble::kFailed: {
        slot.alive = false;
        const std::string what = fmt::format("{}: {}", slot.name, error.what);
        if (options_.may_use_cpu) {
          note(fmt::format("{}; {} computed on the CPU, the device is left alone from here on",
                           what, counted(piece.rows, "row")),
               true);
        }
        on_cpu(work, queue, piece, what);
        return;
      }
    }
  }

  void on_cpu(const Work& work, Queue& queue, const Piece& piece, const std::string& why) {
    if (!options_.may_use_cpu) {
      queue.fail({ErrorCode::kBackend, "", why, ""});
      return;
    }
    auto done = cpu_call([&] { return work.compute(cpu(), piece); });
    if (!done) queue.fail(done.error());
  }

  /// Says which devices could not be opened: why no device is used where it is all of them.
  void settle_unopened() {
    const bool any = std::any_of(slots_.begin(), slots_.end(),
                                 [](const Slot& slot) { return slot.device != nullptr; });
    const bool all =
        std::none_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.alive; });
    for (Slot& slot : slots_) {
      if (slot.reason.empty()) continue;
      if (any) {
        note(fmt::format("{}: not used: {}", slot.name, slot.reason), true);
        slot.reason.clear();
      } else if (all && fallback_.empty()) {
        fallback_ = slot.reason;
      }
    }
  }

  // ---- pairs of an embedding -------------------------------------------------------------------

  /// Parts of a pass, which devices and the CPU take from, and the states of those that are done.
  class PairParts {
   public:
    PairParts(const EmbeddingView& view, const PairPass& pass, int threads,
              const PairProgress& progress)
        : view_(view), pass_(pass), threads_(threads), progress_(progress) {}

    /// Rows of one side for each part, so that parts have about as many pairs.
    void cut(i64 devices) {
      const i64 count = devices > 1 ? devices * kPairPartsEach : 1;
      PairPass part = pass_;
      const u64 fair = std::max<u64>(pass_.pairs() / static_cast<u64>(count), 1);
      while (part.a_first < pass_.a_last || waiting_.empty()) {
        part.a_last = pass_.a_last;
        // The first rows have the most pairs: halve until the rows have a fair share of them.
        i64 enough = part.a_first;
        while (count > 1 && part.a_last - enough > 1) {
          const i64 middle = enough + (part.a_last - enough) / 2;
          PairPass tried = part;
          tried.a_last = middle;
          (tried.pairs() >= fair ? part.a_last : enough) = middle;
        }
        waiting_.push_back(part);
        part.a_first = part.a_last;
      }
    }
    std::optional<PairPass> take() {
      const std::lock_guard lock(mutex_);
      if (error_ || waiting_.empty()) return std::nullopt;
      PairPass part = std::move(waiting_.front());
      waiting_.pop_front();
      return part;
    }
    void put_back(PairPass part, std::string why) {
      const std::lock_guard lock(mutex_);
      waiting_.push_front(std::move(part));
      why_ = std::move(why);
    }
    void fail(const Error& error) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = error;
    }
    std::string why() const { return why_.empty() ? "no device is left" : why_; }

    /// Computes a part on a backend. Several threads may, of different parts and backends.
    Result<void> compute(Backend& backend, const PairPass& part) {
      u64 told = 0;
      const PairProgress tell = [&](u64 pairs) {
        const std::lock_guard lock(progress_mutex_);
        // A part that was begun before, and failed, was told of already.
        done_ += pairs - told;
        told = pairs;
        most_ = std::max(most_, std::min(done_, pass_.pairs()));
        progress_(most_);
      };
      auto states =
          backend.embedding_pairs(view_, part, threads_, progress_ ? tell : PairProgress{});
      if (!states) {
        const std::lock_guard lock(progress_mutex_);
        done_ -= told;
        return states.error();
      }
      const std::lock_guard lock(mutex_);
      if (!begun_) {
        begun_ = true;
        states_ = std::move(*states);
        return {};
      }
      return states_.merge(std::move(*states), pass_.neighbours);
    }
    Result<PairStates> finish() {
      if (error_) return *error_;
      if (!pass_.kept.empty() && static_cast<i64>(states_.kept.bytes()) > pass_.kept_bytes) {
        states_.kept = {};
        states_.kept.complete = false;
      }
      return std::move(states_);
    }

   private:
    const EmbeddingView& view_;
    const PairPass& pass_;
    int threads_;
    const PairProgress& progress_;
    std::mutex mutex_;
    std::deque<PairPass> waiting_;
    std::string why_;
    std::optional<Error> error_;
    bool begun_ = false;
    PairStates states_;
    std::mutex progress_mutex_;
    u64 done_ = 0, most_ = 0;
  };

  /// Takes parts until none is left or the device cannot do one; that one waits for others.
  void serve_pairs(Slot& slot, PairParts& parts) {
    try {
      while (auto part = parts.take()) {
        if (auto done = parts.compute(*slot.device, *part); done) {
          slot.computed = true;
          continue;
        } else if (slot.device->trouble() == DeviceTrouble::kNone) {
          return parts.fail(done.error());
        } else {
          const bool failed = slot.device->trouble() == DeviceTrouble::kFailed;
          if (failed) slot.alive = false;
          std::string what = fmt::format("{}: {}", slot.name, done.error().what);
          if (options_.may_use_cpu) {
            note(fmt::format("{}; its pairs are computed elsewhere{}", what,
                             failed ? ", the device is left alone from here on" : ""),
                 true);
          }
          return parts.put_back(std::move(*part), std::move(what));
        }
      }
    } catch (const std::bad_alloc&) {
      parts.fail(out_of_host_memory());
    } catch (const std::exception& failure) {
      parts.fail({ErrorCode::kInternal, "", failure.what(), ""});
    }
  }

  // ---- notes -----------------------------------------------------------------------------------

  void note(std::string text, bool warning) {
    const std::lock_guard lock(notes_mutex_);
    for (auto& [known, times] : notes_) {
      if (known.text != text) continue;
      ++times;
      return;
    }
    notes_.push_back({{std::move(text), warning}, 1});
  }
  void note_once(std::string text) {
    const std::lock_guard lock(notes_mutex_);
    for (const auto& [known, times] : notes_) {
      if (known.text == text) return;
    }
    notes_.push_back({{std::move(text), false}, 1});
  }

  DeviceGroupOptions options_;
  std::vector<Slot> slots_;
  std::function<std::unique_ptr<Backend>()> make_cpu_;
  mutable std::unique_ptr<Backend> cpu_;
  bool cpu_computed_ = false;
  mutable std::mutex cpu_mutex_;  ///< guards the three above, and lets in one call at a time
  std::string fallback_;
  bool held_ = false;

  std::mutex notes_mutex_;
  std::vector<std::pair<BackendNote, i64>> notes_;  ///< and how often
};

}  // namespace

std::unique_ptr<DeviceGroup> make_device_group(std::vector<GroupDevice> devices,
                                               std::function<std::unique_ptr<Backend>()> cpu,
                                               DeviceGroupOptions options) {
  return std::make_unique<Group>(std::move(devices), std::move(cpu), std::move(options));
}

std::unique_ptr<DeviceGroup> make_device_group(std::vector<std::unique_ptr<DeviceBackend>> devices,
                                               std::function<std::unique_ptr<Backend>()> cpu,
                                               DeviceGroupOptions options) {
  std::vector<GroupDevice> openable;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    // A function object has to be copyable.
    auto held = std::make_shared<std::unique_ptr<DeviceBackend>>(std::move(devices[i]));
    openable.push_back(
        {fmt::format("{}:{}", options.kind, i),
         [held]() -> Result<std::unique_ptr<DeviceBackend>> { return std::move(*held); }});
  }
  return make_device_group(std::move(openable), std::move(cpu), std::move(options));
}

TableView rows_of(const TableView& table, i64 first, i64 rows) {
  TableView part = table;
  part.rows = rows;
  part.scores.data = table.scores.data == nullptr ? nullptr : table.scores.at(first);
  if (!part.scores.shape.empty()) part.scores.shape[0] = rows;
  const auto advance = [](auto*& pointer, i64 by) {
    if (pointer != nullptr) pointer += by;
  };
  advance(part.binary_labels, first);
  advance(part.class_labels, first);
  advance(part.label_matrix, first * table.classes);
  advance(part.weights_f64, first);
  advance(part.weights_f32, first);
  advance(part.cells, first);
  advance(part.row_keys, first);
  part.first_row += first;
  return part;
}

i64 table_bytes(const TableView& table) {
  const i64 columns = table.task == Task::kBinary ? 1 : table.classes;
  i64 row = columns * dtype_size(table.scores.dtype);
  if (table.binary_labels != nullptr) row += 1;
  if (table.class_labels != nullptr) row += static_cast<i64>(sizeof(i32));
  if (table.label_matrix != nullptr) row += table.classes;
  if (table.weights_f64 != nullptr) row += static_cast<i64>(sizeof(double));
  if (table.weights_f32 != nullptr) row += static_cast<i64>(sizeof(float));
  if (table.cells != nullptr) row += static_cast<i64>(sizeof(u32));
  return table.rows * row;
}

}  // namespace cupel
