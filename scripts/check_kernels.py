#!/usr/bin/env python3
"""Checks the project's kernels against a budget, from what ptxas said when they were compiled.

    scripts/check_kernels.py LOG... [--budget kernels/budget.txt] [--write] [--names]

A kernel may not spill registers or use a stack, and no program may use more registers than its line
in the budget says, which has `PROGRAM ARCHITECTURE REGISTERS`; its instances are taken together. Of an
architecture without lines only spills and stacks are looked at. --write makes the lines of the logs'
architectures from the logs and keeps the others; --names prints the programs, one a line. Exits 1 with each
breach.
"""

import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENTRY = re.compile(r"Compiling entry function '([^']+)' for '([^']+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
OWN = re.compile(r"cupel::device::run_(?:program|for_each)<cupel::device::(\w+)")


def demangle(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return text.stdout.splitlines()


def read_logs(paths):
    """(program, architecture, registers, stack, spills) of the project's own kernels."""
    found = []
    for path in paths:
        entry = stack = None
        for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
            if match := ENTRY.search(line):
                entry, stack = match.groups(), (0, 0, 0)
            elif match := STACK.search(line):
                stack = tuple(map(int, match.groups()))
            elif (match := USED.search(line)) and entry:
                found.append((*entry, int(match.group(1)), stack[0], stack[1] + stack[2]))
                entry = None
    names = demangle([kernel[0] for kernel in found])
    own = []
    for name, (_, architecture, registers, frame, spills) in zip(names, found):
        if match := OWN.search(name):
            own.append((match.group(1), architecture, registers, frame, spills))
    return own


def read_budget(path):
    """Registers by (program, architecture)."""
    budget = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split("#")[0].split()
        if fields:
            budget[fields[0], fields[1]] = int(fields[2])
    return budget


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", metavar="LOG")
    parser.add_argument("--budget", type=pathlib.Path, default=ROOT / "kernels" / "budget.txt")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--names", action="store_true")
    arguments = parser.parse_args()

    kernels = read_logs(arguments.logs)
    if not kernels:
        print("no kernel in the logs: were they compiled with -Xptxas -v?")
        return 1
    most = {}
    for program, architecture, registers, _, _ in kernels:
        most[program, architecture] = max(most.get((program, architecture), 0), registers)
    programs = {program for program, _ in most}
    built = {architecture for _, architecture in most}
    if arguments.names:
        print("\n".join(sorted(programs)))
        return 0
    if arguments.write:
        known = read_budget(arguments.budget) if arguments.budget.exists() else {}
        most |= {key: registers for key, registers in known.items() if key[0] in programs and key[1] not in built}
        lines = ["# Most registers a thread of each program may use; scripts/check_kernels.py checks it.\n"]
        lines += [f"{program} {architecture} {most[program, architecture]}\n" for program, architecture in sorted(most)]
        arguments.budget.write_text("".join(lines), encoding="utf-8")
        return 0

    budget = read_budget(arguments.budget)
    bounded = {architecture for _, architecture in budget}
    breaches = []
    if not built & bounded:
        print(f"no budget for {', '.join(sorted(built))}: only spills and stacks are looked at")
    for program, architecture, registers, frame, spills in kernels:
        if frame or spills:
            breaches.append(f"{program} ({architecture}): {frame} bytes of stack, {spills} bytes spilled")
        if architecture not in bounded:
            continue
        if (program, architecture) not in budget:
            breaches.append(f"{program} ({architecture}): not in {arguments.budget.name}")
        elif registers > budget[program, architecture]:
            allowed = budget[program, architecture]
            breaches.append(f"{program} ({architecture}): {registers} registers, the budget is {allowed}")
    for program in sorted({program for program, _ in budget} - programs):
        breaches.append(f"{program}: in the budget, but there is no such kernel")
    for line in dict.fromkeys(breaches):
        print(line)
    print(f"kernels: {len(kernels)} instances of {len(programs)} programs, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
