#!/usr/bin/env python3
"""Measures conformal sets of `cupel eval` beside TorchCP and MAPIE: the same arrays, the same run, this machine.

    scripts/venv.sh --oracles-conformal
    .venv-oracles/bin/python scripts/bench_conformal.py                 1e6 rows of 1000 classes: 4 GB of disk
    .venv-oracles/bin/python scripts/bench_conformal.py --rows 1e5 --torchcp-rows 2e4 --mapie-rows 5e3
    .venv-oracles/bin/python scripts/bench_conformal.py --only quantile

The work: logits f32, a half for calibration; thresholds of LAC, APS and RAPS at five alphas, the sets of the
other half, their coverage and mean size. cupel is a cold process, file to JSON, the file in the page cache. A
peer is timed inside its calls, arrays loaded, in a process of its own, on as many rows as its memory
allows; its time per row is then multiplied (its work is proportional to rows). Its answers are compared with cupel's on the same
rows before a time of it is reported. Peak memory is ru_maxrss; of cupel also the largest RssAnon, which leaves out
the pages of the mapped file.

TorchCP is used in two ways: `calls`, as its examples do (calculate_threshold and predict_with_logits for each alpha), and
`shared`, with the scores of a split computed once for all alphas by its own functions. MAPIE takes all alphas at once; its APS
and RAPS are randomised, and its RAPS searches lambda on a tenth of the calibration half.

--only quantile: 1e8 calibration scores to a threshold, beside numpy.partition, numpy.quantile, numpy.sort and torch.kthvalue.
"""

import argparse
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

from bench_eval import ROOT, fail, machine, note, power, write_json

ALPHAS = (0.01, 0.05, 0.1, 0.2, 0.3)
SCORES = ("lac", "aps", "raps")
PENALTY, K_REG = 0.01, 5  # of RAPS: cupel's defaults
FIGURES = ("sets", "quantile")
BLOCK = 20_000
GOALS = {"torchcp": 10, "mapie": 20}

# ---- arrays -------------------------------------------------------------------------------------


def write_npz(path, arrays):
    """arrays: {name: (dtype, shape, blocks)}; written block by block, renamed when complete."""
    import numpy as np

    if path.exists():
        return path
    note(f"writing {path.name}")
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, (dtype, shape, blocks) in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(out, header)
                    for block in blocks():
                        out.write(np.ascontiguousarray(block, dtype).data.cast("B"))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    partial.rename(path)
    return path


def logits_file(settings, rows):
    import numpy as np

    classes = settings.classes
    # Each class equally often in either half: MAPIE's RAPS splits the calibration half by class.
    label = np.arange(rows) % classes
    half = np.arange(rows) // classes % 2 == 0

    def logits():
        rng = np.random.Generator(np.random.SFC64(2))
        for at in range(0, rows, BLOCK):
            z = rng.standard_normal((min(BLOCK, rows - at), classes), dtype="f4") * np.float32(1.5)
            z[np.arange(len(z)), label[at : at + len(z)]] += 3 + 2 * rng.standard_normal(len(z), dtype="f4")
            yield z

    return write_npz(settings.dir / f"logits_{rows}x{classes}.npz", {
        "logits": ("<f4", (rows, classes), logits),
        "label": ("<i8", (rows,), lambda: [label]),
        "is_calibration": ("|b1", (rows,), lambda: [half]),
    })  # fmt: skip


def score_file(settings, rows):
    """A score per row, all rows but 1000 for calibration."""
    import numpy as np

    def blocks(make):
        def each():
            rng = np.random.Generator(np.random.SFC64(4))
            for at in range(0, rows, 10_000_000):
                yield make(rng.random(min(10_000_000, rows - at), dtype="f4"), at)

        return each

    return write_npz(settings.dir / f"scores_{rows}.npz", {
        "score": ("<f4", (rows,), blocks(lambda u, at: u)),
        "label": ("|u1", (rows,), blocks(lambda u, at: u * 0 + 1)),
        "is_calibration": ("|b1", (rows,), blocks(lambda u, at: np.arange(at, at + len(u)) < rows - 1000)),
    })  # fmt: skip


# ---- cupel --------------------------------------------------------------------------------------


def cupel_command(settings, path):
    return [str(settings.cupel), "eval", str(path), "--metrics", "coverage,set_size", "--conformal", ",".join(SCORES),
            "--alpha", ",".join(map(str, ALPHAS)), "--calibration", "is_calibration", "--format", "json", "-q",
            "--backend", "cpu", *settings.cupel_options.split()]  # fmt: skip


def anonymous_bytes(pid):
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def run_once(command):
    """Seconds, peak memory, largest anonymous memory (looked at every 20 ms) and the document."""
    largest, done = [0], threading.Event()
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), 1)])

        def look():
            while not done.wait(0.02):
                largest[0] = max(largest[0], anonymous_bytes(pid))

        watcher = threading.Thread(target=look)
        watcher.start()
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
        if os.waitstatus_to_exitcode(status) != 0:
            fail(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
        output.seek(0)
        document = json.loads(output.read())
    return {"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024,
            "anonymous_bytes": largest[0]}, document  # fmt: skip


def run_cupel(settings, command, path):
    runs = []
    for _ in range(settings.repeat):
        subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True)  # into the page cache
        run, document = run_once(command)
        runs.append(run)
    seconds = [run["seconds"] for run in runs]
    record = {"seconds": seconds, "median_s": statistics.median(seconds), "best_s": min(seconds),
              "cpu_s": statistics.median(run["cpu_s"] for run in runs),
              "peak_bytes": max(run["peak_bytes"] for run in runs),
              "anonymous_bytes": max(run["anonymous_bytes"] for run in runs)}  # fmt: skip
    return record, document


def answers(document):
    """{score: {alpha: (qhat, coverage, size)}}"""
    out = {score: {} for score in SCORES}
    for result in document["results"]:
        params = result["params"]
        found = out[params["conformal"]].setdefault(str(params["alpha"]), [None] * 3)
        found[0] = float(result["details"]["qhat"])
        found[1 if result["metric"] == "coverage" else 2] = result["value"]
    return out


class Watch:
    """Seconds that passed and seconds of processors since it was made."""

    def __init__(self):
        self.start = time.perf_counter(), time.process_time()

    def read(self):
        return time.perf_counter() - self.start[0], time.process_time() - self.start[1]


# ---- peers, each in a process of its own ---------------------------------------------------------


def peer_arrays(path):
    import numpy as np

    with np.load(path) as arrays:
        logits, label, half = arrays["logits"], arrays["label"], arrays["is_calibration"]
    return logits[half], label[half], logits[~half], label[~half]


def torchcp_worker(request):
    sys.path.insert(0, str(ROOT / "tests/oracles"))
    import conformal_libraries as lib

    torch = lib.torch
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(request["threads"])
    z_cal, y_cal, z, y = (torch.from_numpy(a) for a in peer_arrays(request["path"]))
    metric = lib.torchcp_metrics.Metrics()
    quantile = lib.module("torchcp.utils.common").calculate_conformal_value
    found = {}
    watch = Watch()
    for name in SCORES:
        score = lib.torchcp_score(name, "softmax", penalty=PENALTY, kreg=K_REG)
        predictor = lib.torchcp_predictors.SplitPredictor(score)
        found[name] = {}
        if request["way"] == "shared":
            cal_scores, scores = score(z_cal, y_cal), score(z)
        for alpha in ALPHAS:
            if request["way"] == "shared":
                predictor.q_hat = quantile(cal_scores, alpha)
                sets = predictor._generate_prediction_set(scores, predictor.q_hat)
            else:
                predictor.calculate_threshold(z_cal, y_cal, alpha)
                sets = predictor.predict_with_logits(z)
            coverage, size = metric("coverage_rate")(sets, y), metric("average_size")(sets, y)
            found[name][str(alpha)] = [float(predictor.q_hat), coverage, size]
    return found, watch.read()


def mapie_worker(request):
    sys.path.insert(0, str(ROOT / "tests/oracles"))
    import conformal_libraries as lib
    import numpy as np
    from scipy.special import softmax

    z_cal, y_cal, z, y = peer_arrays(request["path"])

    class Softmax(lib.sklearn_base.ClassifierMixin, lib.sklearn_base.BaseEstimator):
        def __init__(self):
            self.classes_ = np.arange(z.shape[1])
            self.n_features_in_ = z.shape[1]

        def fit(self, X, y):
            return self

        def predict_proba(self, X):
            return softmax(X, axis=1)

        def predict(self, X):
            return X.argmax(axis=1)

    found = {}
    watch = Watch()
    for name in SCORES:
        fitted = lib.mapie_classification.SplitConformalClassifier(
            Softmax(), confidence_level=[1 - alpha for alpha in ALPHAS], conformity_score=name, prefit=True, random_state=1
        )
        fitted.conformalize(z_cal, y_cal)
        _, sets = fitted.predict_set(z)
        coverage = lib.mapie_set_metrics.classification_coverage_score(y, sets)
        size = lib.mapie_set_metrics.classification_mean_width_score(sets)
        qhat = np.ravel(fitted._mapie_classifier.quantiles_)
        found[name] = {str(a): [float(q), float(c), float(s)] for a, q, c, s in zip(ALPHAS, qhat, coverage, size)}
        del sets
    return found, watch.read()


def quantile_worker(request):
    import math

    import numpy as np

    with np.load(request["path"]) as arrays:
        score = 1 - arrays["score"][arrays["is_calibration"]].astype(request["dtype"])
    n = len(score)
    k = math.ceil((n + 1) * 0.9)
    calls = {
        "numpy.partition": lambda: np.partition(score, k - 1)[k - 1],
        "numpy.quantile": lambda: np.quantile(score, k / n, method="inverted_cdf"),
        "numpy.sort": lambda: np.sort(score)[k - 1],
    }
    if request["what"] == "torch.kthvalue":
        import torch

        tensor = torch.from_numpy(score)
        calls["torch.kthvalue"] = lambda: torch.kthvalue(tensor, k).values
    watch = Watch()
    return float(calls[request["what"]]()), watch.read()


WORKERS = {"torchcp": torchcp_worker, "mapie": mapie_worker, "quantile": quantile_worker}


def worker(name):
    import warnings

    warnings.filterwarnings("ignore")
    os.environ["CUPEL_ORACLES"] = sys.prefix  # the adapters of tests/oracles run in this environment
    found, (seconds, cpu) = WORKERS[name](json.load(sys.stdin))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({"found": found, "seconds": seconds, "cpu_s": cpu, "peak_bytes": peak}, sys.stdout)


def own_process(name, request):
    """What the worker found, its seconds and peak memory; None where it was killed, as for want of memory."""
    done = subprocess.run(
        [sys.executable, __file__, "--worker", name], input=json.dumps(request), stdout=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode < 0:
        return None
    if done.returncode != 0:
        fail(f"the {name} worker ended with status {done.returncode}")
    return json.loads(done.stdout)


# ---- the figures --------------------------------------------------------------------------------


def must_agree(what, ours, theirs, scores):
    """Coverages within 0.002 and sizes within 2 %: a peer's softmax and sums are float32."""
    for score in scores:
        for alpha, (_, coverage, size) in theirs[score].items():
            mine = ours[score][alpha]
            if not (abs(mine[1] - coverage) <= 0.002 and abs(mine[2] - size) <= 0.02 * max(size, 1)):
                fail(f"{what}, {score} at {alpha}: cupel gives coverage {mine[1]!r}, size {mine[2]!r}, the peer {coverage!r}, "
                     f"{size!r}; no time is reported")  # fmt: skip


def gigabytes(count):
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def measure_sets(settings):
    path = logits_file(settings, settings.rows)
    note(f"cupel, {power(settings.rows)} rows")
    full, _ = run_cupel(settings, cupel_command(settings, path), path)
    yield {"name": "cupel", "rows": settings.rows, "file_bytes": path.stat().st_size, **full}
    peers = [("torchcp", way, settings.torchcp_rows) for way in ("calls", "shared")] + [("mapie", "", settings.mapie_rows)]
    for peer, way, sizes in peers:
        for rows in sizes:
            small = logits_file(settings, rows)
            same, document = run_cupel(settings, cupel_command(settings, small), small)
            times = []
            for _ in range(settings.peer_repeat):
                note(f"{peer} {way}, {power(rows)} rows; load {os.getloadavg()[0]:.1f}")
                got = own_process(peer, {"path": str(small), "way": way, "threads": len(os.sched_getaffinity(0))})
                if got is None:
                    break
                times.append(got)
            if not times:
                yield {"name": peer, "way": way, "rows": rows, "killed": True}
                continue
            # What MAPIE draws at random cannot be compared.
            must_agree(f"{peer} {way}", answers(document), times[0]["found"], SCORES if peer == "torchcp" else ["lac"])
            best, cpu = min(t["seconds"] for t in times), min(t["cpu_s"] for t in times)
            yield {
                "name": peer, "way": way, "rows": rows, "seconds": [t["seconds"] for t in times], "best_s": best, "cpu_s": cpu,
                "peak_bytes": max(t["peak_bytes"] for t in times), "cupel_same_rows": same,
                "factor_same_rows": best / same["median_s"], "factor_cpu": cpu / rows * settings.rows / full["cpu_s"],
                "extrapolated_s": best / rows * settings.rows,
                "factor": best / rows * settings.rows / full["median_s"], "goal": GOALS[peer],
            }  # fmt: skip


def measure_quantile(settings):
    path = score_file(settings, settings.scores)
    command = [str(settings.cupel), "eval", str(path), "--metrics", "coverage(conformal=lac,alpha=0.1)", "--calibration",
               "is_calibration", "--format", "json", "-q", "--backend", "cpu"]  # fmt: skip
    note(f"cupel, {power(settings.scores)} scores")
    record, document = run_cupel(settings, command, path)
    qhat = float(document["results"][0]["details"]["qhat"])
    yield {"name": "cupel quantile", "rows": settings.scores, "file_bytes": path.stat().st_size, "qhat": qhat, **record}
    for what, dtype in (("numpy.partition", "f4"), ("numpy.partition", "f8"), ("numpy.quantile", "f8"), ("numpy.sort", "f8"),
                        ("torch.kthvalue", "f4"), ("torch.kthvalue", "f8")):  # fmt: skip
        note(f"{what} {dtype}; load {os.getloadavg()[0]:.1f}")
        times = []
        for _ in range(settings.peer_repeat):
            got = own_process("quantile", {"path": str(path), "what": what, "dtype": dtype})
            if got is None:
                break
            if abs(got["found"] - qhat) > 1e-6:
                fail(f"{what}: qhat {got['found']!r}, cupel's is {qhat!r}; no time is reported")
            times.append(got)
        if times:
            yield {
                "name": what, "dtype": dtype, "rows": settings.scores, "seconds": [t["seconds"] for t in times],
                "best_s": min(t["seconds"] for t in times), "cpu_s": min(t["cpu_s"] for t in times),
                "peak_bytes": max(t["peak_bytes"] for t in times),
            }  # fmt: skip


def text(r):
    name = " ".join(part for part in (r["name"], r.get("way"), r.get("dtype")) if part)
    start = f"| {name} | {power(r['rows'])} |"
    if r.get("killed"):
        return f"{start} killed, as for want of memory | | | |"
    if r["name"].startswith("cupel"):
        time = f"{r['median_s']:.3g} s (best {r['best_s']:.3g}), processor {r['cpu_s']:.3g} s"
        file, own = gigabytes(r["file_bytes"]), gigabytes(r["anonymous_bytes"])
        return f"{start} {time} | {gigabytes(r['peak_bytes'])}; {own} without the mapped file of {file} | | |"
    start += f" {r['best_s']:.3g} s, processor {r['cpu_s']:.3g} s | {gigabytes(r['peak_bytes'])} |"
    if "factor" not in r:
        return f"{start} | |"
    mark = "met" if r["factor"] >= r["goal"] else "**missed**"
    return (
        f"{start} {r['factor_same_rows']:.3g} x | {r['factor']:.3g} x, extrapolated to {r['extrapolated_s']:.3g} s (goal "
        f"{r['goal']}: {mark}); by processor time {r['factor_cpu']:.3g} x |"
    )


def main():
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
        return 0
    count = lambda word: int(float(word))  # noqa: E731
    counts = lambda words: [] if words == "none" else [count(word) for word in words.split(",")]  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cupel", type=Path, default=ROOT / "build/bin/cupel", help="the program (build/bin/cupel)")
    parser.add_argument("--cupel-options", default="", help="more options of cupel, as one word")
    parser.add_argument("--dir", type=Path, help="where the arrays are written and kept (a temporary folder, removed)")
    parser.add_argument("--only", choices=FIGURES, help="one of the two")
    parser.add_argument("--rows", type=count, default=10**6, help="rows that cupel evaluates (1e6)")
    parser.add_argument("--classes", type=count, default=1000)
    parser.add_argument("--torchcp-rows", type=counts, default=[10**5], help="rows that TorchCP gets, or none (1e5)")
    parser.add_argument("--mapie-rows", type=counts, default=[2 * 10**4],
                        help="rows that MAPIE gets, at least 20 for each class, or none (2e4)")  # fmt: skip
    parser.add_argument("--scores", type=count, default=10**8, help="calibration scores of --only quantile (1e8)")
    parser.add_argument("--repeat", type=count, default=5, help="runs of cupel (5)")
    parser.add_argument("--peer-repeat", type=count, default=2, help="runs of a peer, of which the best counts (2)")
    parser.add_argument("--json", type=Path, help="also write the figures here, as bench/results/cpu/conformal.json")
    settings = parser.parse_args()
    settings.cupel = settings.cupel.resolve()
    if not os.access(settings.cupel, os.X_OK):
        fail(f"{settings.cupel}: no such program; build it, or name it with --cupel")
    try:
        host = machine(settings)
        import importlib.metadata

        host |= {name: importlib.metadata.version(name) for name in ("torch", "torchcp", "MAPIE")}
    except ImportError as missing:
        fail(f"{missing}; run scripts/venv.sh --oracles-conformal, then .venv-oracles/bin/python {sys.argv[0]}")
    if host["load_before"] > 0.5:
        note(f"warning: load average {host['load_before']:.2f}; other work disturbs the times")
    rows = []
    print("| work | rows | time | peak memory | factor, same rows | factor |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="cupel_bench_") as temporary:
        settings.dir = settings.dir or Path(temporary)
        settings.dir.mkdir(parents=True, exist_ok=True)
        for figure, measure in zip(FIGURES, (measure_sets, measure_quantile)):
            if settings.only in (None, figure):
                for r in measure(settings):
                    rows.append({"figure": figure, "load": os.getloadavg()[0], **r})
                    print(text(r), flush=True)
    print(
        f"\n{host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB; {host['cupel']}; torchcp {host['torchcp']}, torch "
        f"{host['torch']}, MAPIE {host['MAPIE']}, NumPy {host['numpy']}, Python {host['python']}; load before "
        f"{host['load_before']:.1f}, after {os.getloadavg()[0]:.1f}."
    )
    if settings.json:
        today = datetime.date.today().isoformat()
        document = {"schema": "cupel.bench_conformal/1", "date": today, "machine": host, "results": rows}
        write_json(settings.json, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
