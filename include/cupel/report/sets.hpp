// Set files and what is said of them: sets of rows as npz or CSV, written as they come, and the
// summary of a command that made them. The bytes of a set file depend on the sets alone.
//
// npz, layout csr: `labels` u16 [labels of all sets, ascending in each], `offsets` i64 [rows + 1],
// where the labels of a row begin (scipy.sparse.csr_matrix takes both); layout bitmask: `mask` u8
// [rows, ceil(classes / 8)], label j in bit j % 8 (1 << j % 8) of byte j / 8, as
// numpy.unpackbits(mask, axis=1, count=classes, bitorder="little") has it. With several alphas each
// has its own: `labels_0.1`, `offsets_0.1`, `mask_0.1`. And `rows` i64 [rows], the position of each
// in its dump; `alpha`, `qhat` f64, of several alphas [alphas] (qhat: and [classes] or [groups] by
// mode); `classes`, `n_calibration` i64; `p_values` f64, one of each of `labels` (`p_values_0.1`),
// or, of all labels, [rows, classes]; `about`, a JSON text with everything else: options, ranks,
// sums, inputs and their hashes. With mode=group, `groups` in it has the {column: value} of each
// entry of `qhat`, null where unknown, ascending by value (bytewise, null first), and
// `unseen_group_rows` how many rows are in groups without calibration rows: theirs are all labels.
//
// CSV: `row,labels`, the labels of a row separated by blanks, and `p_values` likewise; with several
// alphas `row,labels_0.1,labels_0.05`.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cupel/eval/sets.hpp"
#include "cupel/io/file_sink.hpp"
#include "cupel/report/report.hpp"

namespace cupel {

enum class SetsLayout : u8 { kCsr, kBitmask };

/// Writes the sets of one dump into `out`, which is empty and outlives the sink. Errors of the
/// sink: those of `out`.
std::unique_ptr<SetsSink> npz_sets(FileSink& out, SetsLayout layout);
std::unique_ptr<SetsSink> csv_sets(FileSink& out);

/// What became of a command: a document of schema "cupel.sets/1", one result a line. `outputs` is
/// the file of each result.
std::string render_sets(const SetsReport& report, std::span<const std::string> outputs,
                        std::string_view version);
/// The same for people, a few lines a result.
std::vector<std::string> describe_sets(const SetsResult& result, const std::string& output);

}  // namespace cupel
