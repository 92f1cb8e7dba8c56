#!/usr/bin/env python3
"""Writes the JSON of scripts/verify_gpu.sh from the files of its steps.

    scripts/gpu_report.py WORK VERSION NAMES OUT

WORK/steps has a line NAME TAB STATUS TAB SECONDS for each step; NAME.log is what it said, NAME.out its standard
output. Kernels count as verified when the self-test and the tests on the GPU both passed: between them they
run every one.
"""

import datetime
import json
import os
import pathlib
import sys

SCHEMA = "cupel.verify_gpu/1"
DETAIL_LINES = 12
DETAIL_CHARACTERS = 2000
NEEDED = ("selftest", "tests")


def text_of(path):
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def json_of(path):
    try:
        return json.loads(text_of(path))
    except ValueError:
        return None


def detail_of(step, work):
    """Of what passed the last line, or nothing where that is a document; else the end of what it said."""
    if step["status"] == "passed" and json_of(work / f"{step['name']}.out") is not None:
        return ""
    lines = [line for line in text_of(work / f"{step['name']}.log").splitlines() if line.strip()]
    kept = lines[-1:] if step["status"] == "passed" else lines[-DETAIL_LINES:]
    return "\n".join(kept)[-DETAIL_CHARACTERS:]


def smi_facts(work):
    """nvidia-smi's table as one object for each GPU."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text_of(work / "smi.out").splitlines()]
    return [dict(zip(rows[0], row)) for row in rows[1:] if len(row) == len(rows[0])] if rows else []


def main():
    if len(sys.argv) != 5:
        print("usage: gpu_report.py WORK VERSION NAMES OUT", file=sys.stderr)
        return 2
    work, version, names, out = map(pathlib.Path, sys.argv[1:])
    steps = []
    for line in text_of(work / "steps").splitlines():
        name, status, seconds = line.split("\t")
        steps.append({"name": name, "status": status, "seconds": float(seconds)})
        steps[-1]["detail"] = detail_of(steps[-1], work)
    status = {step["name"]: step["status"] for step in steps}
    facts = dict(line.split(" ", 1) for line in text_of(version).splitlines() if " " in line)
    devices = json_of(work / "devices.out")
    selftest = json_of(work / "selftest.out")
    usable = [d for d in (devices or {}).get("devices", []) if d["usable"]]
    gpus = smi_facts(work) if status.get("smi") == "passed" else []
    bench = json_of(work / "bench.json")
    verified = all(status.get(name) == "passed" for name in NEEDED)
    document = {
        "schema": SCHEMA,
        "commit": facts.get("commit"),
        "version": facts.get("version"),
        "architectures": facts.get("architectures", "").split(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "device": usable[0]["device"] if usable else None,
        "architecture": usable[0]["architecture"] if usable else None,
        "driver": gpus[0].get("driver_version") if gpus else None,
        "cuda": (devices or {}).get("driver"),
        "cpu": ((devices or {}).get("cpu") or {}).get("device"),
        "passed": bool(steps) and "failed" not in status.values(),
        "steps": steps,
        "kernels": text_of(names).split() if verified else [],
        "kernels_tried": text_of(names).split() if usable else [],
        "smi": gpus,
        "devices": devices,
        "selftest": selftest,
        "bench": bench,
        "peers": json_of(work / "peers.json"),
    }
    partial = out.with_name(out.name + ".partial")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
