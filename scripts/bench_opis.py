#!/usr/bin/env python3
"""Measures OPIS over all pairs by `cupel eval` beside a NumPy script with the full matrix of distances, in the same run.

    .venv/bin/python scripts/bench_opis.py                      60,502 x 512, 11,316 classes; NumPy with 4,000 to 16,000 rows
    .venv/bin/python scripts/bench_opis.py --rows 8000 --classes 1500 --numpy-rows 4000
    .venv/bin/python scripts/bench_opis.py --json bench/results/cpu/opis.json

The size is that of Stanford Online Products' test set; the rows are random: a direction for each class with noise around it,
so that a tenth of the pairs lie in the range of OPIS. cupel is a cold process, file to JSON, the file in the page cache. The
NumPy script is what private evaluations do: normalise, X @ X.T, distances, for each class sorted positives and negatives, and
counts at the thresholds by searchsorted. It is timed inside its calls, arrays loaded, in a process of its own. Its OPIS is compared with
cupel's on the same rows before a time of it is reported; its work is proportional to the pairs, by which its time is extrapolated.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_conformal import run_once, write_npz
from bench_eval import ROOT, fail, machine, note, write_json

D_RANGE = (1.1557, 1.1899)  # about a hundredth and a tenth of the negative pairs
GOALS = {"d_range": (8, 5), "far_range": (11, 6)}  # seconds: must, aim, of 60,502 x 512 on 2 cores
FULL = (60502, 512, 11316)


def embedding_file(settings, rows, width, classes):
    """Classes of equal size but for the rest; every row at most once the length of its class's direction away."""
    import numpy as np

    label = np.sort(np.arange(rows) % classes)

    def blocks():
        centres = np.random.Generator(np.random.SFC64(7)).standard_normal((classes, width), dtype="f4")
        rng = np.random.Generator(np.random.SFC64(8))
        common = 0.9 * rng.standard_normal(width, dtype="f4")
        for at in range(0, rows, 10_000):
            own = label[at : at + 10_000]
            yield common + 0.6 * centres[own] + 1.5 * rng.standard_normal((len(own), width), dtype="f4")

    return write_npz(settings.dir / f"embedding_{rows}x{width}_{classes}.npz", {
        "embedding": ("<f4", (rows, width), blocks),
        "label": ("<i8", (rows,), lambda: [label]),
    })  # fmt: skip


def metric_of(way):
    return f"opis(d_range={D_RANGE[0]}:{D_RANGE[1]})" if way == "d_range" else "opis"


def run_cupel(settings, path, way):
    command = [str(settings.cupel), "eval", str(path), "--metrics", metric_of(way), "--format", "json", "-q", "--backend", "cpu",
               *settings.cupel_options.split()]  # fmt: skip
    runs = []
    for _ in range(settings.repeat):
        subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True)  # into the page cache
        note(f"cupel {way}, {path.name}; load {os.getloadavg()[0]:.1f}")
        run, document = run_once(command)
        runs.append(run)
    seconds = [run["seconds"] for run in runs]
    return {"seconds": seconds, "median_s": statistics.median(seconds), "best_s": min(seconds),
            "cpu_s": statistics.median(run["cpu_s"] for run in runs), "peak_bytes": max(run["peak_bytes"] for run in runs),
            "anonymous_bytes": max(run["anonymous_bytes"] for run in runs)}, document["results"][0]  # fmt: skip


def numpy_worker(request):
    import numpy as np

    with np.load(request["path"]) as arrays:
        x, label = arrays["embedding"], arrays["label"]
    start = time.perf_counter()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    distance = x @ x.T
    distance *= -2
    distance += 2
    np.maximum(distance, 0, out=distance)
    np.sqrt(distance, out=distance)
    if request["range"] is None:
        upper = [distance[i, i + 1 :][label[i + 1 :] != label[i]] for i in range(len(x))]
        negatives = np.concatenate(upper)
        del upper
        ranks = [int(np.ceil(f * len(negatives))) - 1 for f in (0.01, 0.1)]
        negatives.partition(ranks)
        low, high = float(negatives[ranks[0]]), float(negatives[ranks[1]])
        del negatives
    else:
        low, high = request["range"]
    grid = np.linspace(low, high, 101)
    utility = []
    for c in np.unique(label):
        own = label == c
        inside = distance[np.ix_(own, own)]
        positives = np.sort(inside[np.triu_indices(len(inside), 1)])
        if not len(positives):
            continue
        negatives = np.sort(distance[own][:, ~own], axis=None)
        tpr = np.searchsorted(positives, grid, "right") / len(positives)
        tnr = 1 - np.searchsorted(negatives, grid, "right") / len(negatives)
        both = tpr + tnr
        utility.append(np.divide(2 * tpr * tnr, both, out=np.zeros_like(both), where=both > 0))
    utility = np.stack(utility)
    value = float(np.mean((utility - utility.mean(axis=0)) ** 2))
    return {"value": value, "range": [low, high], "seconds": time.perf_counter() - start}


def own_process(request):
    """What the worker found; None where it was killed, as for want of memory."""
    done = subprocess.run([sys.executable, __file__, "--worker"], input=json.dumps(request), stdout=subprocess.PIPE, text=True,
                          check=False)  # fmt: skip
    if done.returncode < 0:
        return None
    if done.returncode != 0:
        fail(f"the NumPy worker ended with status {done.returncode}")
    return json.loads(done.stdout)


def measure(settings):
    rows, width, classes = settings.rows, settings.width, settings.classes
    pairs = rows * (rows - 1) // 2
    path = embedding_file(settings, rows, width, classes)
    full = {}
    for way in GOALS:
        full[way], result = run_cupel(settings, path, way)
        record = {"name": "cupel", "way": way, "rows": rows, "width": width, "classes": classes, "value": result["value"],
                  "gflops": 2 * width * pairs / full[way]["median_s"] / 1e9, **full[way]}  # fmt: skip
        if (rows, width, classes) == FULL:
            record["must_s"], record["aim_s"] = GOALS[way]
        yield record
    for small_rows in settings.numpy_rows:
        small = embedding_file(settings, small_rows, width, max(2, small_rows * classes // rows))
        for way in GOALS:
            same, result = run_cupel(settings, small, way)
            note(f"NumPy {way}, {small_rows} rows; load {os.getloadavg()[0]:.1f}")
            got = own_process({"path": str(small), "range": D_RANGE if way == "d_range" else None})
            if got is None:
                yield {"name": "numpy", "way": way, "rows": small_rows, "killed": True}
                continue
            # Its dot products round otherwise, which moves a few pairs over a threshold.
            if abs(got["value"] - result["value"]) > 1e-6 + 1e-4 * result["value"]:
                fail(f"{way}, {small_rows} rows: cupel gives {result['value']!r}, NumPy {got['value']!r}; no time is reported")
            scale = pairs / (small_rows * (small_rows - 1) // 2)
            yield {"name": "numpy", "way": way, "rows": small_rows, "value": got["value"], "best_s": got["seconds"],
                   "peak_bytes": got["peak_bytes"], "cupel_same_rows": same, "factor_same_rows": got["seconds"] / same["median_s"],
                   "extrapolated_s": got["seconds"] * scale,
                   "factor": got["seconds"] * scale / full[way]["median_s"]}  # fmt: skip


def text(r):
    start = f"| {r['name']} {r['way']} | {r['rows']:,} |"
    if r.get("killed"):
        return f"{start} killed, as for want of memory | | | |"
    if r["name"] == "cupel":
        goal = ""
        if "must_s" in r:
            goal = f"must {r['must_s']}, aim {r['aim_s']}: {'met' if r['median_s'] <= r['must_s'] else '**missed**'}"
        return (f"{start} {r['median_s']:.3g} s (best {r['best_s']:.3g}), {r['gflops']:.0f} GFLOP/s | "
                f"{r['peak_bytes'] / 1e9:.2f} GB | {goal} | |")  # fmt: skip
    return (f"{start} {r['best_s']:.3g} s | {r['peak_bytes'] / 1e9:.2f} GB | {r['factor_same_rows']:.3g} x on the same rows | "
            f"{r['factor']:.3g} x, extrapolated to {r['extrapolated_s']:.3g} s |")  # fmt: skip


def main():
    if sys.argv[1:2] == ["--worker"]:
        found = numpy_worker(json.load(sys.stdin))
        found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        json.dump(found, sys.stdout)
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=FULL[0])
    parser.add_argument("--width", type=int, default=FULL[1])
    parser.add_argument("--classes", type=int, default=FULL[2])
    parser.add_argument("--numpy-rows", type=lambda words: [int(word) for word in words.split(",") if word], default=[4000, 16000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cupel", type=Path, default=ROOT / "build/bin/cupel")
    parser.add_argument("--cupel-options", default="")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("TMPDIR", "/tmp")) / "cupel-bench")
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    settings.dir.mkdir(parents=True, exist_ok=True)
    rows = []
    print("| work | rows | time | peak memory | | of the full size |\n|---|---|---|---|---|---|", flush=True)
    for record in measure(settings):
        rows.append(record)
        print(text(record), flush=True)
    if settings.json:
        write_json(settings.json, {"machine": machine(settings), "command": " ".join(sys.argv), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
