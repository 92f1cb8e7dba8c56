#!/usr/bin/env python3
"""Measures `cupel eval` beside scikit-learn on the same arrays, in the same run, on the same machine.

    .venv/bin/python scripts/bench_eval.py                       all five figures; 1e8 rows, 10 GB of memory
    .venv/bin/python scripts/bench_eval.py --rows 1e7            a tenth of it
    .venv/bin/python scripts/bench_eval.py --only half,startup   some of them
    .venv/bin/python scripts/bench_eval.py --readme README.md    also replaces the table there

A run of cupel is a cold process with the file in the page cache, where reading it from the disk put it (pages
that came there by writing are small ones, and mapping these takes 20 ms more for 300 MB): wall time from spawn to exit, peak memory
from wait4 (ru_maxrss: the resident set at its largest, mapped file pages included). scikit-learn
is timed inside its function call, arrays loaded, in a process of its own so that its peak is its own. Every
answer is compared with a reference before a time of it is reported; a difference ends the
program. No goal is a test: a missed one is marked in the table.
"""

import argparse
import datetime
import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# NumPy and scikit-learn are imported where they are used: the process that spawns cupel has to stay
# small, because a child's ru_maxrss starts at the resident set of the process it was spawned from.

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ("auroc", "combined", "half", "multilabel", "startup")
DISTRIBUTIONS = ("uniform", "normal", "sigmoid", "ties")
FIVE = "auroc,auprc,ks,f_beta_max,brier"
CHUNK = 10_000_000
MARKERS = ("<!-- bench:begin -->", "<!-- bench:end -->")


def fail(message):
    print(f"bench_eval: {message}", file=sys.stderr)
    sys.exit(1)


def note(message):
    print(message, file=sys.stderr, flush=True)


# ---- processes ----------------------------------------------------------------------------------


def spawn_worker():
    """Runs the commands given on standard input as JSON in turn, `repeat` times; a list of runs of each."""
    request = json.load(sys.stdin)
    outcome = [[] for _ in request["commands"]]
    for _ in range(request["repeat"]):
        for command, runs in zip(request["commands"], outcome):
            redirect = [(os.POSIX_SPAWN_OPEN, 1, request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
            start = time.perf_counter()
            pid = os.posix_spawn(command[0], command, os.environ, file_actions=redirect)
            _, status, usage = os.wait4(pid, 0)
            seconds = time.perf_counter() - start
            if os.waitstatus_to_exitcode(status) != 0:
                sys.exit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
            text = Path(request["output"]).read_text(encoding="utf-8")
            runs.append({"seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024, "output": text,
                         "cpu_seconds": usage.ru_utime + usage.ru_stime})  # fmt: skip
    json.dump(outcome, sys.stdout)


def own_process(name, request):
    """Runs this script as a worker in a fresh process and returns what it prints as JSON."""
    # -S: the spawning worker needs nothing from site-packages and stays under 12 MB.
    flags = ["-S"] if name == "spawn" else []
    done = subprocess.run(
        [sys.executable, *flags, __file__, "--worker", name],
        input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        fail(f"the {name} worker ended with status {done.returncode}")
    return json.loads(done.stdout)


class Runs:
    """Repeated runs of one command: times, peak memory, the JSON document of the last."""

    def __init__(self, runs):
        self.seconds = [r["seconds"] for r in runs]
        self.best, self.median = min(self.seconds), statistics.median(self.seconds)
        self.peak = max(r["peak_bytes"] for r in runs)
        self.cpu = statistics.median(r["cpu_seconds"] for r in runs)
        self.document = json.loads(runs[-1]["output"])
        for run in runs:
            if json.loads(run["output"])["results"] != self.document["results"]:
                fail("two runs of the same command gave different results")
        timings = [json.loads(r["output"])["timing"] for r in runs]
        # What the command itself counts, without process start, reading of headers and output.
        self.engine = statistics.median(t["read_s"] + t["compute_s"] for t in timings)

    def value(self, metric, average=None, k=None):
        found = [
            r["value"] for r in self.document["results"]
            if (r["metric"], r["average"], r["class"], r["group"]) == (metric, average, k, None)
        ]  # fmt: skip
        if len(found) != 1 or not isinstance(found[0], (int, float)):
            fail(f"no value of {metric} in the result of cupel")
        return found[0]

    def record(self):
        return {"seconds": self.seconds, "best_s": self.best, "median_s": self.median, "engine_s": self.engine,
                "cpu_s": self.cpu, "peak_bytes": self.peak}  # fmt: skip


def run_cupel(settings, jobs, repeat):
    """jobs: [(path, metrics, more options)], run in turn so that a disturbance meets all of them alike."""
    commands = []
    for path, metrics, more in jobs:
        subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True)  # into the page cache
        commands.append([str(settings.cupel), "eval", str(path), "--metrics", metrics, "--format", "json", *more])
    request = {"commands": commands, "repeat": repeat, "output": str(settings.dir / "cupel_output.json")}
    return [Runs(runs) for runs in own_process("spawn", request)]


def must_agree(what, ours, theirs, tolerance):
    if not abs(ours - theirs) <= tolerance:
        fail(f"{what}: cupel gives {ours!r}, the reference {theirs!r}; no time is reported")


# ---- arrays -------------------------------------------------------------------------------------


def scores_of(rng, label, distribution):
    import numpy as np

    n = len(label)
    if distribution == "uniform":  # positives are the larger of two draws: AUROC 2/3
        score = rng.random(n, dtype="f4")
        return np.where(label, np.maximum(score, rng.random(n, dtype="f4")), score)
    if distribution == "ties":  # 101 values
        score = rng.random(n, dtype="f4")
        score = np.where(label, np.maximum(score, rng.random(n, dtype="f4")), score)
        return np.floor(score * 101) / np.float32(101)
    normal = rng.standard_normal(n, dtype="f4")
    if distribution == "normal":
        return normal + label
    return 1 / (1 + np.exp(-(3 * normal + 2 * label.astype("f4") - 1)))  # sigmoid: much near 0 and 1


def make_file(path, make):
    """Writes the npz unless it is there; renamed when complete, so that what is there is whole."""
    import numpy as np

    if not path.exists():
        note(f"writing {path.name}")
        partial = path.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.savez(file, **make())
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        partial.rename(path)
    return path


def binary_file(settings, rows, distribution, dtype="f4"):
    import numpy as np

    def make():
        rng = np.random.Generator(np.random.SFC64(20240311))
        score, label = np.empty(rows, dtype=dtype), np.empty(rows, dtype="u1")
        for at in range(0, rows, CHUNK):
            part = slice(at, min(at + CHUNK, rows))
            label[part] = rng.random(part.stop - at, dtype="f4") < np.float32(0.1)
            score[part] = scores_of(rng, label[part], distribution)
        return {"score": score, "label": label}

    return make_file(settings.dir / f"binary_{distribution}_{dtype}_{rows}.npz", make)


def multilabel_file(settings, rows, labels):
    import numpy as np

    def make():
        rng = np.random.Generator(np.random.SFC64(20240312))
        score, label = np.empty((rows, labels), dtype="f4"), np.empty((rows, labels), dtype="u1")
        share = np.linspace(0.02, 0.5, labels, dtype="f4")
        step = max(1, CHUNK // labels)
        for at in range(0, rows, step):
            part = slice(at, min(at + step, rows))
            label[part] = rng.random((part.stop - at, labels), dtype="f4") < share
            score[part] = scores_of(rng, label[part].ravel(), "uniform").reshape(-1, labels)
        return {"probs": score, "label": label}

    return make_file(settings.dir / f"multilabel_{rows}x{labels}.npz", make)


def load(path):
    import numpy as np

    with np.load(path) as arrays:
        return arrays["score" if "score" in arrays else "probs"], arrays["label"]


# ---- references, each in a process of its own ------------------------------------------------------


def sklearn_worker():
    """AUROC by scikit-learn: value, best time of `repeat` calls, this process's peak memory."""
    request = json.load(sys.stdin)
    from sklearn.metrics import roc_auc_score

    score, label = load(request["path"])
    seconds = []
    for _ in range(request["repeat"]):
        start = time.perf_counter()
        if score.ndim == 1:
            values = [float(roc_auc_score(label, score))]
        else:
            values = [float(roc_auc_score(label[:, k], score[:, k])) for k in range(score.shape[1])]
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({"values": values, "seconds": seconds, "best_s": min(seconds), "peak_bytes": peak}, sys.stdout)


def numpy_worker():
    """The five metrics of a binary file by one NumPy sort, sums of the areas in exact integers."""
    import numpy as np

    score, label = load(json.load(sys.stdin)["path"])
    brier = math.fsum(
        float(((score[a : a + CHUNK].astype("f8") - label[a : a + CHUNK]) ** 2).sum())
        for a in range(0, len(score), CHUNK)
    )
    bits = (score + score.dtype.type(0)).view(f"u{score.dtype.itemsize}")  # -0.0 + 0.0 is 0.0
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    key = np.where(bits & sign, ~bits, bits | sign).astype("u8") << np.uint64(1) | label
    del bits, score
    key.sort()
    key = key[::-1]
    tp = np.cumsum(key & np.uint64(1), dtype="i8")
    last = np.append(np.flatnonzero((key[1:] >> np.uint64(1)) != (key[:-1] >> np.uint64(1))), len(key) - 1)
    del key
    tp = tp[last]
    fp = last + 1 - tp
    positive, negative = int(tp[-1]), int(fp[-1])
    before_tp, before_fp = np.append(0, tp[:-1]), np.append(0, fp[:-1])
    # 2U: each term is at most 2 P N < 2^53 for 1e8 rows and their sum is exact in int64.
    twice = int(((fp - before_fp) * (tp + before_tp)).sum())
    precision = tp / (last + 1)
    json.dump(
        {
            "auroc": twice / (2 * positive * negative),
            "auprc": float(((tp - before_tp) * precision).sum()) / positive,
            "ks": float((tp / positive - fp / negative).max()),
            "f_beta_max": float((2 * tp / (positive + last + 1)).max()),
            "brier": brier / len(label),
        },
        sys.stdout,
    )


def read_bandwidth(path, repeat=5):
    """GB/s of reading: `cat` of the file to /dev/null, and NumPy sums of warm memory on all cores."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    def best(action):
        seconds = []
        for _ in range(repeat):
            start = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    size = os.path.getsize(path)
    cat = best(lambda: subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True))
    words = np.ones(max(size // 8, 1 << 16), dtype="u8")
    parts = np.array_split(words, 8 * cores())
    with ThreadPoolExecutor(cores()) as pool:
        memory = best(lambda: list(pool.map(np.add.reduce, parts)))
    return {"cat_gb_per_s": size / cat / 1e9, "memory_gb_per_s": words.nbytes / memory / 1e9}


# ---- the five figures ---------------------------------------------------------------------------


def row(work, measured, figure, unit, must, aim=None, at_most=False, **record):
    """One line of the table; `figure` is judged against `must` (at least, or at most)."""
    met = figure <= must if at_most else figure >= must
    return {"work": work, "measured": measured, "figure": figure, "unit": unit, "must": must, "aim": aim,
            "at_most": at_most, "met": met, **record}  # fmt: skip


def power(n):
    exponent = int(math.log10(n))
    return f"1e{exponent}" if n == 10**exponent else f"{n:,}"


def measure_auroc(settings):
    for distribution in settings.dist:
        path = binary_file(settings, settings.rows, distribution)
        (runs,) = run_cupel(settings, [(path, "auroc", [])], settings.repeat)
        note(f"scikit-learn, {power(settings.rows)} rows, {distribution}")
        peer = own_process("sklearn", {"path": str(path), "repeat": settings.peer_repeat})
        must_agree(f"AUROC, {distribution}", runs.value("auroc"), peer["values"][0], 1e-12)
        size = path.stat().st_size
        what = f"AUROC, {power(settings.rows)} rows f32 + u8, 10 % positive, {distribution}"
        record = {"distribution": distribution, "rows": settings.rows, "file_bytes": size,
                  "cupel": runs.record(), "sklearn": peer, "value": runs.value("auroc")}  # fmt: skip
        yield row(
            what,
            f"{runs.median:.3f} s (best {runs.best:.3f}); scikit-learn {peer['best_s']:.1f} s",
            peer["best_s"] / runs.median, "x scikit-learn", 100, 170, **record,
        )  # fmt: skip
        yield row(
            "its peak memory, mapped pages included",
            f"{runs.peak / 1e9:.2f} GB of a file of {size / 1e9:.2f} GB; scikit-learn {peer['peak_bytes'] / 1e9:.2f} GB",
            runs.peak / size, "x the file", 2.5, at_most=True,
        )  # fmt: skip


def measure_combined(settings):
    path = binary_file(settings, settings.rows, "uniform")
    alone, five = run_cupel(settings, [(path, "auroc", []), (path, FIVE, [])], settings.repeat)
    note("NumPy reference of the five metrics")
    reference = own_process("numpy", {"path": str(path)})
    for metric, value in reference.items():
        must_agree(metric, five.value(metric), value, 1e-11 if metric in ("auprc", "brier") else 1e-12)
    must_agree("AUROC alone", alone.value("auroc"), reference["auroc"], 0)
    yield row(
        f"AUROC + AP + KS + F1-max + Brier, {power(settings.rows)} rows",
        f"{five.median:.3f} s; AUROC alone {alone.median:.3f} s",
        five.median / alone.median, "x AUROC alone", 1.4, 1.15, at_most=True,
        rows=settings.rows, cupel=five.record(), alone=alone.record(), values=reference,
    )  # fmt: skip


def rank_bench(settings, names):
    """GB/s that the engine's own benchmark reports for each of these names (its best of three), or None without it."""
    if not os.access(settings.rank_bench, os.X_OK):
        note(f"{settings.rank_bench}: not there (-DCUPEL_BENCH=ON builds it); the engine alone is left out")
        return None
    pattern = "|".join(f"^{name}(/|$)" for name in names)
    done = subprocess.run(
        [str(settings.rank_bench), f"--benchmark_filter={pattern}", "--benchmark_repetitions=3", "--benchmark_format=json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        fail(f"{settings.rank_bench} ended with status {done.returncode}")
    runs = [r for r in json.loads(done.stdout)["benchmarks"] if r["run_type"] == "iteration"]
    return [max(r["bytes_per_second"] for r in runs if r["name"].startswith(f"{name}/")) / 1e9 for name in names]


def measure_half(settings):
    path = binary_file(settings, settings.rows, "uniform", "f2")
    (runs,) = run_cupel(settings, [(path, "auroc", [])], settings.repeat)
    engine = rank_bench(settings, ["halves/100000000/0/0/2", "read_memory/300000000/2"])
    size, read = path.stat().st_size, read_bandwidth(path)
    note("NumPy reference of the half-precision AUROC")
    must_agree("AUROC, f16", runs.value("auroc"), own_process("numpy", {"path": str(path)})["auroc"], 0)
    memory = max([read["memory_gb_per_s"], *(engine or [])[1:]])
    # The goals are for a machine that reads 44 GB/s.
    must, aim = (round(goal * memory / 44, 1) for goal in (10, 19))
    yield row(
        f"AUROC, f16 + u8, {power(settings.rows)} rows, whole command",
        f"{runs.median:.4f} s (best {runs.best:.4f}); goals are 10 and 19 for a memory that reads 44 GB/s, this one "
        f"reads {memory:.1f} in the same run",
        size / runs.median / 1e9, "GB/s", must, aim,
        rows=settings.rows, file_bytes=size, cupel=runs.record(), read=read, value=runs.value("auroc"),
    )  # fmt: skip
    yield row(
        "the same, beside `cat FILE >/dev/null`", f"best of 5 of `cat`, {1000 * size / read['cat_gb_per_s'] / 1e9:.0f} ms",
        100 * size / runs.median / 1e9 / read["cat_gb_per_s"], "% of its speed", 70,
    )  # fmt: skip
    if engine:
        yield row(
            "the engine alone, 1e8 such rows in memory", f"warm, best of 3; memory reads {memory:.1f} GB/s",
            engine[0], "GB/s", must, aim, read_gb_per_s=engine[1],
        )  # fmt: skip


def measure_multilabel(settings):
    rows, labels = settings.multilabel
    path = multilabel_file(settings, rows, labels)
    (runs,) = run_cupel(settings, [(path, "auroc", [])], settings.repeat)
    (each,) = run_cupel(settings, [(path, "auroc", ["--by-class"])], 1)
    note(f"scikit-learn, {labels} columns")
    peer = own_process("sklearn", {"path": str(path), "repeat": 1})
    for k, value in enumerate(peer["values"]):
        must_agree(f"AUROC of label {k}", each.value("auroc", k=k), value, 1e-12)
    must_agree("macro AUROC", runs.value("auroc", "macro"), statistics.fmean(peer["values"]), 1e-12)
    yield row(
        f"macro AUROC, {labels:,} labels x {power(rows)} rows f32",
        f"{runs.median:.3f} s (best {runs.best:.3f}); scikit-learn, all columns in a loop, {peer['best_s']:.1f} s",
        peer["best_s"] / runs.median, "x scikit-learn", 50, 100,
        rows=rows, labels=labels, file_bytes=path.stat().st_size, cupel=runs.record(),
        sklearn={k: v for k, v in peer.items() if k != "values"}, value=runs.value("auroc", "macro"),
    )  # fmt: skip


def measure_startup(settings):
    path = binary_file(settings, 10_000, "uniform")
    (runs,) = run_cupel(settings, [(path, "auroc", [])], 30)
    must_agree("AUROC, 10,000 rows", runs.value("auroc"), own_process("numpy", {"path": str(path)})["auroc"], 0)
    yield row(
        "start-up and AUROC of 10,000 rows", f"median of 30 runs (best {1000 * runs.best:.1f} ms)",
        1000 * runs.median, "ms", 25, 10, at_most=True, rows=10_000, cupel=runs.record(),
    )  # fmt: skip


MEASURES = dict(zip(FIGURES, (measure_auroc, measure_combined, measure_half, measure_multilabel, measure_startup)))


# ---- machine, table, files ----------------------------------------------------------------------


def cores():
    return len(os.sched_getaffinity(0))


def machine(settings):
    import numpy
    import sklearn

    def field(path, key):
        lines = Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
        found = (line.split(":" if ":" in line else "=", 1)[1] for line in lines if line.startswith(key))
        return next(found, "unknown").strip().strip('"')

    memory = field("/proc/meminfo", "MemTotal").split()[0]
    version = subprocess.run([str(settings.cupel), "--version"], stdout=subprocess.PIPE, text=True, check=False)
    if version.returncode != 0:
        fail(f"{settings.cupel} --version: exit status {version.returncode}")
    return {
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": cores(),
        "memory_gb": round(int(memory) / 1e6) if memory.isdigit() else None,
        "system": f"{field('/etc/os-release', 'PRETTY_NAME')}, Linux {platform.release()}",
        "load_before": os.getloadavg()[0],
        "real_time": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
        "cupel": version.stdout.split("\n")[0].strip(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "sklearn": sklearn.__version__,
    }


def command_text(settings):
    """The command that measures the same; without folders, which say nothing about it."""
    words = ["scripts/bench_eval.py", f"--rows {power(settings.rows)}", f"--repeat {settings.repeat}"]
    words += [f"--dist {','.join(settings.dist)}"] if settings.dist != ["uniform"] else []
    words += [f"--only {','.join(settings.only)}"] if settings.only != list(FIGURES) else []
    rows, labels = settings.multilabel
    words += [f"--multilabel {power(rows)} {labels}"] if (rows, labels) != (10**5, 1000) else []
    return " ".join(words)


def markdown(host, rows, command):
    def goal(r):
        sign = "at most" if r["at_most"] else "at least"
        text = f"{sign} {r['must']:g}"
        return text + (f", aim {r['aim']:g}" if r["aim"] is not None else "")

    lines = ["| work | figure | goal | | measured |", "|---|---|---|---|---|"]
    for r in rows:
        digits = 0 if r["figure"] >= 100 else 1 if r["figure"] >= 10 else 2
        mark = "met" if r["met"] else "**missed**"
        lines.append(f"| {r['work']} | {r['figure']:.{digits}f} {r['unit']} | {goal(r)} | {mark} | {r['measured']} |")
    lines += [
        "",
        f"{host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB, {host['system']}; {host['cupel']}; "
        f"scikit-learn {host['sklearn']}, NumPy {host['numpy']}, Python {host['python']}.",
        "A run of cupel is a cold process with the file in the page cache, read there from disk; times are medians. Every answer was compared with the "
        "reference before its time was taken."
        + (f" All programs ran at real-time priority beside other work (load {host['load_before']:.1f})." if host["real_time"] else ""),
        f"`{command}`",
    ]
    return "\n".join(lines)


def replace_between_markers(path, table):
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(MARKERS[0], 1)
    tail = rest.split(MARKERS[1], 1)[1]
    partial = path.with_name(path.name + ".partial")
    partial.write_text(f"{head}{MARKERS[0]}\n{table}\n{MARKERS[1]}{tail}", encoding="utf-8")
    partial.rename(path)


def write_json(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    partial.rename(path)


def arguments():
    def names(allowed):
        def parse(text):
            chosen = text.split(",")
            unknown = [c for c in chosen if c not in allowed]
            if unknown:
                raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(allowed)}")
            return chosen

        return parse

    def count(text):
        value = float(text)
        if not value.is_integer() or value < 1:
            raise argparse.ArgumentTypeError(f"'{text}' is no number of rows")
        return int(value)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cupel", type=Path, default=ROOT / "build/bin/cupel", help="the program (build/bin/cupel)")
    parser.add_argument("--rank-bench", type=Path, default=ROOT / "build/bench/rank_bench",
                        help="the engine's benchmark (build/bench/rank_bench)")  # fmt: skip
    parser.add_argument("--dir", type=Path, help="where the arrays are written and kept (a temporary folder, removed)")
    parser.add_argument("--rows", type=count, default=10**8, help="rows of the binary dumps (1e8)")
    parser.add_argument("--dist", type=names(DISTRIBUTIONS), default=["uniform"],
                        help=f"distributions of the first figure: {','.join(DISTRIBUTIONS)} (uniform)")  # fmt: skip
    parser.add_argument("--only", type=names(FIGURES), default=list(FIGURES), help=f"of {','.join(FIGURES)}")
    parser.add_argument("--repeat", type=count, default=5, help="runs of cupel (5)")
    parser.add_argument("--peer-repeat", type=count, default=1, help="calls of roc_auc_score on the binary dumps (1)")
    parser.add_argument("--multilabel", type=count, nargs=2, default=(10**5, 1000), metavar=("ROWS", "LABELS"))
    parser.add_argument("--json", type=Path, default=ROOT / "bench/results/cpu/eval.json", help="where the figures go")
    parser.add_argument("--readme", type=Path, help="replace the table between the bench markers of this file")
    return parser.parse_args()


def main():
    if sys.argv[1:2] == ["--worker"]:
        {"spawn": spawn_worker, "sklearn": sklearn_worker, "numpy": numpy_worker}[sys.argv[2]]()
        return 0
    settings = arguments()
    settings.cupel = settings.cupel.resolve()
    # What would fail at the end fails before the first minute.
    if not os.access(settings.cupel, os.X_OK):
        fail(f"{settings.cupel}: no such program; build it, or name it with --cupel")
    if settings.readme and not all(m in settings.readme.read_text(encoding="utf-8") for m in MARKERS):
        fail(f"{settings.readme}: has no lines {MARKERS[0]} and {MARKERS[1]}")
    try:
        host = machine(settings)
    except ImportError as missing:
        fail(f"{missing}; run scripts/venv.sh, then .venv/bin/python scripts/bench_eval.py")
    if host["load_before"] > 0.5:
        note(f"warning: load average {host['load_before']:.2f}; other work disturbs the times")
    temporary = None if settings.dir else tempfile.mkdtemp(prefix="cupel_bench_")
    settings.dir = Path(temporary or settings.dir)
    settings.dir.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        for figure in settings.only:
            note(f"{figure} ...")
            for r in MEASURES[figure](settings):
                rows.append({"name": figure, **r})
    finally:
        if temporary:
            shutil.rmtree(temporary)
    command = command_text(settings)
    document = {
        "schema": "cupel.bench_eval/1", "date": datetime.date.today().isoformat(), "command": command,
        "machine": host, "results": rows,
    }  # fmt: skip
    write_json(settings.json, document)
    table = markdown(host, rows, command)
    print(table)
    if settings.readme:
        replace_between_markers(settings.readme, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
