#!/usr/bin/env python3
"""Makes the tables of bench/results/gpu from the results of scripts/verify_gpu.sh there.

    scripts/gpu_table.py                        writes bench/results/gpu/README.md
    scripts/gpu_table.py --readme README.md     also the block between the gpu marks of that file
    scripts/gpu_table.py --check [--readme F]   changes nothing; exits 1 when one of them is stale

Which kernels there are is what kernels/budget.txt says. One that no result verifies is listed as never run on
a GPU, and every number here stands in one of the results.
"""

import argparse
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "gpu"
MARKERS = ("<!-- gpu:begin -->", "<!-- gpu:end -->")
SCHEMA = "cupel.verify_gpu/1"
NEVER = "never run on a GPU"
NOT_YET = "not verified: a run failed"


def fail(message):
    print(f"gpu_table: {message}", file=sys.stderr)
    sys.exit(2)


def kernel_names(path):
    lines = (line.split("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines())
    return sorted({fields[0] for fields in lines if fields})


def read_results(folder):
    """The results, oldest first; each with the name of its file."""
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as problem:
            fail(f"{path.name}: {problem}")
        if result.get("schema") != SCHEMA:
            fail(f"{path.name}: its schema is {result.get('schema')!r}, not {SCHEMA!r}")
        results.append({**result, "file": path.name})
    return sorted(results, key=lambda r: (r["date"], r["file"]))


def newest_with(kernels, results, field):
    """Kernel -> the newest result that has it in a list, or None."""
    newest = dict.fromkeys(kernels)
    for result in results:
        for kernel in result[field]:
            if kernel in newest:
                newest[kernel] = result
    return newest


def commit_text(result):
    """Short, but a tree that was not a commit is told as that."""
    commit = result["commit"] or "unknown"
    return commit[:12] + (" and changes" if commit.endswith("-dirty") else "")


def outcome_text(result):
    by_status = {}
    for step in result["steps"]:
        by_status.setdefault(step["status"], []).append(step["name"])
    order = ("passed", "failed", "not available", "skipped")
    return "; ".join(f"{status}: {', '.join(by_status[status])}" for status in order if status in by_status)


def rounded(value, digits=3):
    """Three significant digits; large numbers in full."""
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if abs(value) >= 10**digits else text


def goal_text(case):
    if not case.get("goal"):
        return ""
    goal, figure = case["goal"], case["figure"]["value"]
    measured = "not measured" if figure is None else rounded(figure)
    met = {True: "met", False: "missed", None: "not judged"}[case["met"]]
    at = "<=" if goal["at"] == "most" else ">="
    where = f" on {goal['device']}" if goal.get("device") else ""
    return f"{case['figure']['name']}: {measured}, goal {at} {rounded(goal['value'])}{where}: {met}"


def bench_lines(result):
    """The benchmark and the peers of one result."""
    bench = result["bench"]
    copy = bench["copy"]
    lines = [
        f"## {result['device']}",
        "",
        f"{result['date']}, commit {commit_text(result)}, [{result['file']}]({result['file']}).",
        "Medians of repeated calls;",
        f"in the same run the device copied {rounded(copy['device_gb_per_s'])} GB/s (read and written), and",
        f"{rounded(copy['pinned_to_device_gb_per_s'])} GB/s came to it from pinned memory.",
        "",
        "| case | rows | columns | time | G scores/s | GB/s | goal |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for case in bench["cases"]:
        if "error" in case:
            lines.append(f"| {case['what']} | {case['rows_asked']:,} | | | | | did not run: {case['error']} |")
            continue
        cells = [
            case["what"], f"{case['rows']:,}", f"{case['columns']:,}", f"{rounded(case['seconds']['median'] * 1e3)} ms",
            rounded(case["scores_per_s"] / 1e9), rounded(case["gb_per_s"]), goal_text(case),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    if bench.get("working_memory"):
        lines += ["", f"AUROC, f32 + u8, {goal_text(bench['working_memory'])}."]
    peers = [p for p in (result["peers"] or {}).get("peers", []) if p["status"] == "passed"]
    if peers:
        lines += ["", "| peer | rows | device | time | times as long as cupel |", "|---|--:|---|--:|--:|"]
    for peer in peers:
        times = rounded(peer["times_as_long_as_cupel"]) if "times_as_long_as_cupel" in peer else ""
        time = f"{rounded(peer['median_s'] * 1e3)} ms"
        lines.append(f"| {peer['name']} | {peer['rows']:,} | {peer['device']} | {time} | {times} |")
    return [*lines, ""]


def page(kernels, results):
    lines = [
        "# On a GPU",
        "",
        "Written by `scripts/gpu_table.py` from the results of `scripts/verify_gpu.sh` in this folder.",
        "A kernel is verified by a run in which the self-test and the tests on the GPU passed: every state had the",
        "CPU's bytes.",
        "[docs/GPU.md](../../../docs/GPU.md) says how to make one.",
        "",
        "| kernel | last verified at commit | GPU | date |",
        "|---|---|---|---|",
    ]
    verified, tried = (newest_with(kernels, results, field) for field in ("kernels", "kernels_tried"))
    for kernel in kernels:
        result = verified[kernel] or tried[kernel]
        where = f"{result['device']} | {result['date']}" if result else " | "
        commit = commit_text(result) if result else NEVER
        if result and not verified[kernel]:
            commit = f"{NOT_YET} at {commit}"
        lines.append(f"| `{kernel}` | {commit} | {where} |")
    lines.append("")
    if results:
        lines += ["| run | commit | GPU | driver | steps |", "|---|---|---|---|---|"]
    for result in reversed(results):
        cells = [
            f"[{result['date']}]({result['file']})", commit_text(result), result["device"] or "none usable",
            result["driver"] or "", outcome_text(result),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    if results:
        lines.append("")
    newest = {r["device"]: r for r in results if r["device"] and r["bench"]}
    for device in sorted(newest):
        lines += bench_lines(newest[device])
    return "\n".join(lines)


def code_list(names):
    return ", ".join(f"`{name}`" for name in names)


def block(kernels, results):
    """What the README of the project says."""
    newest, tried = (newest_with(kernels, results, field) for field in ("kernels", "kernels_tried"))
    never = [kernel for kernel in kernels if not newest[kernel] and not tried[kernel]]
    broken = [kernel for kernel in kernels if not newest[kernel] and tried[kernel]]
    if len(never) == len(kernels):
        return f"No kernel has run on a GPU yet. Never run on a GPU: {code_list(never)}."
    runs = {}
    for kernel, result in newest.items():
        if result:
            runs.setdefault((commit_text(result), result["device"], result["date"]), []).append(kernel)
    sentences = []
    for (commit, device, date), verified in runs.items():
        which = f"all {len(kernels)} kernels" if len(verified) == len(kernels) else code_list(verified)
        sentences.append(f"Last verified on {device} at commit {commit} ({date}): {which}.")
    if broken:
        sentences.append(f"Not verified, since a run on a GPU failed: {code_list(broken)}.")
    sentences.append(f"Never run on a GPU: {code_list(never) if never else 'none'}.")
    sentences.append("Runs and what they measured: [bench/results/gpu](bench/results/gpu/README.md).")
    return "\n".join(sentences)


def with_block(path, text):
    """The file's text with the block in place."""
    whole = path.read_text(encoding="utf-8")
    if not all(marker in whole for marker in MARKERS):
        fail(f"{path}: has no lines {MARKERS[0]} and {MARKERS[1]}")
    head, rest = whole.split(MARKERS[0], 1)
    tail = rest.split(MARKERS[1], 1)[1]
    return f"{head}{MARKERS[0]}\n{text}\n{MARKERS[1]}{tail}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--kernels", type=pathlib.Path, default=ROOT / "kernels" / "budget.txt", metavar="FILE")
    parser.add_argument("--readme", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()

    kernels, results = kernel_names(arguments.kernels), read_results(arguments.results)
    wanted = {arguments.results / "README.md": page(kernels, results)}
    if arguments.readme:
        wanted[arguments.readme] = with_block(arguments.readme, block(kernels, results))
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if arguments.check:
        for path in stale:
            print(f"{path} is stale; run scripts/gpu_table.py" + (" --readme README.md" if arguments.readme else ""))
        return 1 if stale else 0
    for path in stale:
        partial = path.with_name(path.name + ".partial")
        partial.write_text(wanted[path], encoding="utf-8")
        os.replace(partial, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
