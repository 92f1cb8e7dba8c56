#include "eval/fit.hpp"

#include "cupel/math/tempering.hpp"
#include "metric/exact.hpp"
#include "metric/held_out.hpp"
#include "metric/rows.hpp"
#include "metric/temperature_search.hpp"

namespace cupel {
namespace {

class Fitter {
 public:
  Fitter(std::span<const PreparedTable> parts, const std::vector<std::vector<u32>>& cell_map,
         std::size_t cells, Backend& backend)
      : parts_(parts), cell_map_(cell_map), cells_(cells), backend_(backend) {}

  Result<void> fit(const std::vector<FitScope>& scopes, const std::vector<std::size_t>& layer,
                   std::vector<FittedScope>& fitted) {
    std::vector<TemperatureSearch> searches(layer.size());
    std::vector<bool> waits(layer.size(), true);
    for (;;) {
      std::vector<double> factors(cells_, 0.0);
      bool any = false;
      for (std::size_t i = 0; i < layer.size(); ++i) {
        if (!waits[i]) continue;
        any = true;
        for (const u32 cell : scopes[layer[i]].calibration) factors[cell] = searches[i].factor();
      }
      if (!any) break;
      RowSpec spec;
      spec.log_loss = true;
      spec.tempering.slopes = true;
      auto sums = pass(spec, factors);
      if (!sums) return sums.error();
      for (std::size_t i = 0; i < layer.size(); ++i) {
        if (!waits[i]) continue;
        auto own = merged(*sums, scopes[layer[i]].calibration);
        if (!own) return own.error();
        waits[i] = advance(searches[i], *own);
      }
    }
    std::vector<double> factors(cells_, 0.0);
    bool any = false;
    for (std::size_t i = 0; i < layer.size(); ++i) {
      const TemperatureFit& fit = fitted[layer[i]].fit = searches[i].fit();
      if (fit.status != FitStatus::kConverged) continue;
      any = true;
      for (const u32 cell : scopes[layer[i]].calibration) factors[cell] = fit.factor;
      for (const u32 cell : scopes[layer[i]].others) factors[cell] = fit.factor;
    }
    if (!any) return {};
    RowSpec spec;
    spec.log_loss = true;
    spec.brier = true;
    spec.bins = {{BinPoints::kTop, kHeldOutBins, false}};
    auto sums = pass(spec, factors);
    if (!sums) return sums.error();
    for (const std::size_t s : layer) {
      if (fitted[s].fit.status != FitStatus::kConverged) continue;
      auto calibration = merged(*sums, scopes[s].calibration);
      if (!calibration) return calibration.error();
      fitted[s].calibration = std::move(*calibration);
      auto others = merged(*sums, scopes[s].others);
      if (!others) return others.error();
      fitted[s].others = std::move(*others);
    }
    return {};
  }

 private:
  /// Sums by cell with a factor for each.
  Result<std::vector<RowSums>> pass(RowSpec& spec, const std::vector<double>& factors) {
    std::vector<RowSums> sums(cells_);
    for (std::size_t part = 0; part < parts_.size(); ++part) {
      const TableView& table = parts_[part].view;
      // Without rows a part has no cells, but a backend counts one.
      spec.tempering.factors.assign(table.cell_count, 0.0);
      for (std::size_t c = 0; c < cell_map_[part].size(); ++c) {
        spec.tempering.factors[c] = factors[cell_map_[part][c]];
      }
      auto own = backend_.row_sums(table, spec);
      if (!own) return own.error();
      for (std::size_t c = 0; c < cell_map_[part].size(); ++c) {
        if (auto done = sums[cell_map_[part][c]].merge((*own)[0][c]); !done) return done.error();
      }
    }
    return sums;
  }

  static Result<RowSums> merged(const std::vector<RowSums>& by_cell,
                                const std::vector<u32>& cells) {
    RowSums all;
    for (const u32 cell : cells) {
      if (auto done = all.merge(by_cell[cell]); !done) return done.error();
    }
    return all;
  }

  /// Whether another step is wanted.
  static bool advance(TemperatureSearch& search, const RowSums& sums) {
    const u128 mass = total_mass(sums);
    if (mass == 0) return false;
    if (sums.overflowed != 0) {
      search.overflow();
      return false;
    }
    const exact::Integer unit = exact::integer(mass) << static_cast<unsigned>(kSlopeBits);
    const SlopeSums& slopes = sums.slopes;
    search.take({exact::to_double(exact::integer(sums.log_loss), unit),
                 exact::to_double(exact::integer(slopes.label) - exact::integer(slopes.mean), unit),
                 exact::to_double(exact::integer(slopes.variance), unit)});
    return !search.done();
  }

  std::span<const PreparedTable> parts_;
  const std::vector<std::vector<u32>>& cell_map_;
  std::size_t cells_;
  Backend& backend_;
};

}  // namespace

Result<std::vector<FittedScope>> fit_temperatures(
    std::span<const PreparedTable> parts, const std::vector<std::vector<u32>>& cell_map,
    std::size_t cells, const std::vector<FitScope>& scopes,
    const std::vector<std::vector<std::size_t>>& layers, Backend& backend) {
  std::vector<FittedScope> fitted(scopes.size());
  Fitter fitter(parts, cell_map, cells, backend);
  for (const auto& layer : layers) {
    if (auto done = fitter.fit(scopes, layer, fitted); !done) return done.error();
  }
  return fitted;
}

}  // namespace cupel
