#!/usr/bin/env python3
"""Checks the layering rule of ARCHITECTURE.md over the whole tree; prints each breach and exits 1.

A header sees only layers to its left, public headers see the standard library alone, the code of a
layer reaches others through public headers, kernels stay behind the backend, and test oracles share
no arithmetic with what they test.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What each folder of include/cupel may include, besides itself. core/bytes.hpp writes wide integers.
PUBLIC = {
    "core": {"math"},
    "math": {"core"},
    "state": {"core", "math"},
    "metric": {"core", "math", "state"},
    "backend": {"core", "math", "state"},
    "io": {"core"},
    "eval": {"core", "math", "state", "metric", "backend", "io"},
    "report": {"core", "metric", "eval", "io"},
}
# Headers of math/ may include these of core/ and nothing else: device code reads them.
MATH_CORE = {"cupel/core/config.hpp", "cupel/core/int.hpp"}
# What nvcc reads of core/, and the files of kernels/ that only g++ compiles.
KERNELS_CORE = MATH_CORE | {"cupel/core/buffer.hpp"}
KERNELS_HOST_CODE = {"device_backend.hpp", "device_backend.cpp", "device_pairs.hpp", "device_pairs.cpp", "cuda_provider.cpp"}
# Which private folders of host/ the code of a folder may include, besides its own.
HOST = {
    "core": set(),
    "io": set(),
    "state": set(),
    "metric": set(),
    "backend": {"state"},
    "eval": {"backend", "metric"},
    "report": {"metric"},
    "cli": {"report"},
}
STANDARD = re.compile(r"^[a-z0-9_]+$|^sys/|^(unistd|fcntl|sched|signal)\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def includes(path):
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def main():
    breaches = []

    def breach(path, text):
        breaches.append(f"{path.relative_to(ROOT)}: {text}")

    for path in sorted((ROOT / "include").rglob("*.hpp")):
        folder = path.relative_to(ROOT / "include" / "cupel").parts[0]
        if folder not in PUBLIC:
            breach(path, f"folder '{folder}' is not a layer")
            continue
        for bracket, name in includes(path):
            if bracket == "<":
                if not STANDARD.match(name):
                    breach(path, f"public header includes <{name}>, only the standard library is allowed")
                if folder == "math":
                    breach(path, f"math/ includes <{name}>, it must build as device code")
                continue
            if not name.startswith("cupel/"):
                breach(path, f'public header includes private "{name}"')
                continue
            target = name.split("/")[1]
            if folder == "math" and target != "math" and name not in MATH_CORE:
                breach(path, f'math/ includes "{name}"')
            if target != folder and target not in PUBLIC[folder]:
                breach(path, f'layer {folder} includes "{name}" to its right')

    for path in sorted((ROOT / "host").rglob("*.[ch]pp")):
        folder = path.relative_to(ROOT / "host").parts[0]
        for bracket, name in includes(path):
            if name.startswith("kernels/") or name.startswith("cuda"):
                breach(path, f'host code includes "{name}"; the GPU is reached through the backend')
            if bracket == '"' and not name.startswith("cupel/"):
                target = name.split("/")[0]
                if target != folder and target not in HOST.get(folder, set()):
                    breach(path, f'host/{folder} includes private "{name}"')

    for path in sorted((ROOT / "kernels").rglob("*.*")):
        if path.suffix not in {".cu", ".cuh", ".hpp", ".cpp"}:
            continue
        is_host_code = path.name in KERNELS_HOST_CODE
        for bracket, name in includes(path):
            if name.startswith("fmt/") or name.split("/")[0] in HOST:
                breach(path, f'kernels include "{name}"')
            if name.startswith("cupel/") and not is_host_code:
                if not name.startswith("cupel/math/") and name not in KERNELS_CORE:
                    breach(path, f'device code includes "{name}", which nvcc does not read')
            if path.parent.name == "pipeline" and (name.startswith(("cuda", "cub/", "thrust/"))):
                breach(path, f'a pipeline includes "{name}"; what is CUDA\'s belongs to the executor')

    for path in sorted((ROOT / "tests" / "support").glob("reference.*")):
        for _, name in includes(path):
            if name.startswith("cupel/math/") or name.startswith("cupel/state/"):
                breach(path, f'the oracle shares "{name}" with what it checks')

    for line in breaches:
        print(line)
    print(f"layers: {len(breaches)} breach{'' if len(breaches) == 1 else 'es'}")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
