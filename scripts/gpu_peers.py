#!/usr/bin/env python3
"""Times the AUROC of other libraries on the rows of scripts/verify_gpu.sh: on its GPU, in its run.

    scripts/gpu_peers.py --output peers.json [--cupel bin/cupel] [--bench bench.json] [--rows 1e8] [--quick]

Peers: torchmetrics and CuPy on the GPU, arrays there before; scikit-learn on the CPU, over a tenth of the
rows. Each is asked for the exact AUROC (no bins), and its value is compared with cupel's on the same rows.
--bench is device_bench's result: its time of as many rows on the device is what a peer on the GPU is
held against. A peer that this python3 does not have is written down as not available. Exits 0 when a
peer ran and none failed, 1 when one failed, 3 when there is none.
"""

import argparse
import importlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

SAMPLES = 7
GOAL, AIM = 3, 5


class NotAvailable(Exception):
    """The peer is not on this machine."""


def needed(name):
    try:
        return importlib.import_module(name)
    except Exception as problem:  # an installed package may fail to load in its own way
        raise NotAvailable(f"{name}: {problem}") from problem


def make_rows(numpy, rows):
    """Uniform float32 scores, one label in ten positive."""
    draw = numpy.random.default_rng(7)
    scores = draw.random(rows, dtype=numpy.float32)
    labels = (draw.random(rows, dtype=numpy.float32) < 0.1).astype(numpy.uint8)
    return scores, labels


def timed(call, wait, samples=SAMPLES):
    """The value, and the seconds of each call after two that are not timed."""
    seconds = []
    for i in range(-2, samples):
        wait()
        start = time.perf_counter()
        value = call()
        wait()
        if i >= 0:
            seconds.append(time.perf_counter() - start)
    return float(value), seconds


def torchmetrics_on_gpu(scores, labels):
    torch = needed("torch")
    torchmetrics = needed("torchmetrics")
    auroc = needed("torchmetrics.functional.classification").binary_auroc
    if not torch.cuda.is_available():
        raise NotAvailable("PyTorch sees no GPU")
    try:
        on_gpu = torch.from_numpy(scores).cuda(), torch.from_numpy(labels).cuda().long()
        value, seconds = timed(lambda: auroc(*on_gpu, thresholds=None, validate_args=False), torch.cuda.synchronize)
        device = torch.cuda.get_device_name()
    finally:
        torch.cuda.empty_cache()
    versions = {"torchmetrics": torchmetrics.__version__, "torch": torch.__version__}
    # Without checks of the arguments, which is its faster call. It sums float32 ratios: a few digits are its own.
    return {"device": device, "value": value, "seconds": seconds, "versions": versions, "tolerance": 1e-3}


def cupy_on_gpu(scores, labels):
    cupy = needed("cupy")
    try:
        device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    except Exception as problem:
        raise NotAvailable(f"CuPy sees no GPU: {problem}") from problem
    on_gpu = cupy.asarray(scores), cupy.asarray(labels)

    def auroc():
        """Twice U from integer ranks, as one would write it."""
        order = cupy.argsort(on_gpu[0])
        ranked, positive = on_gpu[0][order], on_gpu[1][order].astype(cupy.int64)
        last = cupy.flatnonzero(cupy.concatenate([ranked[1:] != ranked[:-1], cupy.ones(1, dtype=bool)]))
        pos_to = cupy.cumsum(positive)[last]
        neg_to = last + 1 - pos_to
        pos = cupy.diff(pos_to, prepend=cupy.zeros(1, dtype=pos_to.dtype))
        neg_below = cupy.concatenate([cupy.zeros(1, dtype=neg_to.dtype), neg_to[:-1]])
        two_u = int(cupy.sum(pos * (neg_below + neg_to)))
        return two_u / (2 * int(pos_to[-1]) * int(neg_to[-1]))

    value, seconds = timed(auroc, cupy.cuda.Device().synchronize)
    return {"device": device, "value": value, "seconds": seconds, "versions": {"cupy": cupy.__version__},
            "tolerance": 1e-12}  # fmt: skip


def sklearn_on_cpu(scores, labels):
    sklearn = needed("sklearn")
    auroc = needed("sklearn.metrics").roc_auc_score
    start = time.perf_counter()
    value = float(auroc(labels, scores))
    return {"device": "cpu", "value": value, "seconds": [time.perf_counter() - start],
            "versions": {"scikit-learn": sklearn.__version__}, "tolerance": 1e-12}  # fmt: skip


def cupel_value(numpy, cupel, scores, labels):
    """What `cupel eval` says of the same rows, and on what; None when it cannot be asked."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.npz"
        numpy.savez(path, score=scores, label=labels)
        command = [str(cupel), "eval", str(path), "--metrics", "auroc", "--format", "json", "-q"]
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        seconds = time.perf_counter() - start
    if done.returncode != 0:
        return None
    document = json.loads(done.stdout)
    return {"value": document["results"][0]["value"], "backend": document["cupel"]["backend"],
            "whole_command_seconds": seconds}  # fmt: skip


def resident_seconds(path, rows):
    """device_bench's median for AUROC of f32 scores on the device, by the row, and what it measured."""
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    except (OSError, ValueError, KeyError):
        return None
    found = [c for c in cases if c["name"] in ("auroc_f32", "auroc_f32_fewer") and "seconds" in c and c["resident"]]
    same = [c for c in found if c["rows"] == rows]
    return {"case": same[0]["name"], "rows": rows, "seconds": same[0]["seconds"]["median"]} if same else None


def measure(name, peer, rows, numpy, ours, bench):
    record = {"name": name, "rows": len(rows[0])}
    try:
        found = peer(*rows)
    except NotAvailable as why:
        return {**record, "status": "not available", "detail": str(why)}
    except Exception as problem:  # whatever a library throws is its result here
        return {**record, "status": "failed", "detail": f"{type(problem).__name__}: {problem}"}
    median = statistics.median(found["seconds"])
    tolerance = found.pop("tolerance")
    record.update(found, status="passed", median_s=median, rows_per_s=len(rows[0]) / median)
    if ours:
        record["cupel"] = ours
        record["difference"] = abs(found["value"] - ours["value"])
        if not record["difference"] <= tolerance:
            record.update(status="failed", detail=f"its value differs from cupel's by {record['difference']}")
    if bench and found["device"] != "cpu":
        record["cupel_resident"] = bench
        record["times_as_long_as_cupel"] = median / bench["seconds"]
        if name == "torchmetrics":
            record.update(goal=GOAL, aim=AIM, met=record["times_as_long_as_cupel"] >= GOAL)
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--cupel", type=pathlib.Path)
    parser.add_argument("--bench", type=pathlib.Path, default=pathlib.Path("bench.json"))
    parser.add_argument("--rows", type=float, default=1e8)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the rows")
    arguments = parser.parse_args()
    rows = int(arguments.rows) // (50 if arguments.quick else 1)

    document = {"schema": "cupel.gpu_peers/1", "peers": []}
    peers = {"torchmetrics": (torchmetrics_on_gpu, 1), "cupy": (cupy_on_gpu, 1), "scikit-learn": (sklearn_on_cpu, 10)}
    try:
        numpy = needed("numpy")
    except NotAvailable as why:
        numpy = None
        document["peers"] = [{"name": name, "status": "not available", "detail": str(why)} for name in peers]
    if numpy:
        scores, labels = make_rows(numpy, rows)
        bench = resident_seconds(arguments.bench, rows)
        ours = {}
        for name, (peer, part) in peers.items():
            table = scores[: rows // part], labels[: rows // part]
            if arguments.cupel and part not in ours:
                ours[part] = cupel_value(numpy, arguments.cupel, *table)
            document["peers"].append(measure(name, peer, table, numpy, ours.get(part), bench))
            arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    statuses = []
    for peer in document["peers"]:
        statuses.append(peer["status"])
        time_text = f"{peer['median_s'] * 1e3:.1f} ms" if "median_s" in peer else peer["detail"]
        print(f"{peer['name']}: {peer['status']}: {time_text}")
    if "failed" in statuses:
        return 1
    return 0 if "passed" in statuses else 3


if __name__ == "__main__":
    sys.exit(main())
