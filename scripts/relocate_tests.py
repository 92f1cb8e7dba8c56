#!/usr/bin/env python3
"""Writes the tests of a build in a form that can be moved: for scripts/pack_gpu.sh.

    ctest --test-dir BUILD --show-only=json-v1 | scripts/relocate_tests.py BUILD OUT LABEL...

Takes the tests with one of the labels whose program lies in BUILD/tests. OUT gets CTestTestfile.cmake
(`ctest --test-dir OUT`), run_gpu.sh, which runs those labelled gpu where there is no ctest, and PROGRAMS:
`NAME PATH` of each program, which has to be put at OUT/NAME.
"""

import json
import pathlib
import shlex
import sys

# What a test says of itself that is still true elsewhere.
KEPT = (
    "DISABLED", "ENVIRONMENT", "FAIL_REGULAR_EXPRESSION", "LABELS", "PASS_REGULAR_EXPRESSION", "PROCESSORS",
    "RESOURCE_LOCK", "RUN_SERIAL", "SKIP_REGULAR_EXPRESSION", "SKIP_RETURN_CODE", "TIMEOUT", "WILL_FAIL",
)  # fmt: skip

RUNNER = """#!/bin/sh
# Runs the tests that need a GPU, for a node without ctest; exits 1 when one fails.
cd "$(dirname "$0")" || exit 1
failed=0
run() {
  echo "== $*"
  env "$@" || { echo "== failed: $*"; failed=1; }
}
"""


def quoted(text):
    """A bracket argument of CMake, in which nothing is replaced."""
    level = "="
    while f"]{level}]" in text:
        level += "="
    return f"[{level}[{text}]{level}]"


def main():
    if len(sys.argv) < 4:
        print("usage: relocate_tests.py BUILD OUT LABEL... <TESTS.json", file=sys.stderr)
        return 2
    build, out, labels = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), set(sys.argv[3:])
    lines, programs, runs = [], {}, []
    for test in json.load(sys.stdin)["tests"]:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        command = test.get("command", [])
        if not labels & set(properties.get("LABELS", [])) or not command:
            continue
        program = pathlib.Path(command[0]).resolve()
        if build / "tests" not in program.parents:
            continue
        if programs.setdefault(program.name, program) != program:
            print(f"two test programs are called {program.name}", file=sys.stderr)
            return 1
        words = " ".join(quoted(word) for word in command[1:])
        name = quoted(test["name"])
        lines.append(f'add_test({name} "${{CMAKE_CURRENT_LIST_DIR}}/{program.name}" {words})')
        for key in KEPT:
            if key in properties:
                value = properties[key]
                text = ";".join(value) if isinstance(value, list) else str(value)
                lines.append(f"set_tests_properties({name} PROPERTIES {key} {quoted(text)})")
        if "gpu" in properties["LABELS"]:
            # All tests of a program at once.
            arguments = [word for word in command[1:] if not word.startswith("--gtest_filter=")]
            run = [*properties.get("ENVIRONMENT", []), f"./{program.name}", *arguments]
            if run not in runs:
                runs.append(run)
    if not any("gpu" in line for line in lines) or not runs:
        print("no test is labelled gpu: was the build made with CUDA?", file=sys.stderr)
        return 1
    (out / "CTestTestfile.cmake").write_text("\n".join(lines) + "\n", encoding="utf-8")
    body = "".join(f"run {shlex.join(run)}\n" for run in runs)
    (out / "run_gpu.sh").write_text(f'{RUNNER}{body}exit "$failed"\n', encoding="utf-8")
    (out / "run_gpu.sh").chmod(0o755)
    (out / "PROGRAMS").write_text("".join(f"{n} {p}\n" for n, p in programs.items()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
