"""What the oracles share: the environment, asking cupel, comparing, the report.

Importing this starts the program over under the interpreter of .venv-oracles, or of the folder that
CUPEL_ORACLES names, whoever started it; without such a folder the program ends with code 77.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SKIPPED = 77


def enter_environment():
    """Starts over under the interpreter of the environment; ends with SKIPPED where there is none."""
    folder = pathlib.Path(os.environ.get("CUPEL_ORACLES", ROOT / ".venv-oracles"))
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"oracles skipped: no {folder}; scripts/venv.sh --oracles makes .venv-oracles")
        sys.exit(SKIPPED)
    if pathlib.Path(sys.prefix).resolve() != folder.resolve():
        os.execv(python, [str(python), *sys.argv])


enter_environment()

import numpy as np  # noqa: E402

warnings.filterwarnings("ignore")


def module(name):
    """A library, or None where it is not installed."""
    try:
        return __import__(name, fromlist=["_"])
    except ImportError:
        return None


# ---- cupel ---------------------------------------------------------------------------------------


class Unknown(Exception):
    """This build has no such metric, option or choice."""


class Cupel:
    def __init__(self, binary):
        self.binary = binary
        version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
        self.version = version.stdout.strip()
        self.answers = {}
        self.known = {}

    def knows(self, name):
        if name not in self.known:
            asked = subprocess.run([self.binary, "metrics", name], capture_output=True, check=False)
            self.known[name] = asked.returncode == 0
        return self.known[name]

    def run(self, command):
        """Standard output of a command. Raises Unknown, or RuntimeError for any other failure."""
        ran = subprocess.run([self.binary, *command], capture_output=True, text=True, check=False)
        if ran.returncode == 2 and any(
            word in ran.stderr for word in ("option", "expected one of", "unknown")
        ):
            raise Unknown(ran.stderr.strip().removeprefix("cupel: ").splitlines()[0])
        if ran.returncode != 0:
            raise RuntimeError(ran.stderr.strip())
        return ran.stdout

    def results(self, data, spec, options=()):
        """The result objects of `spec`, metrics separated by commas, in order; raises as `run` does."""
        key = (data.name, spec, *options)
        if key not in self.answers:
            if not self.knows(spec.split("(")[0].split(",")[0]):
                raise Unknown(f"no metric '{spec.split('(')[0]}' yet")
            command = ["eval", str(data.path), "--metrics", spec, "--format", "json", "-q"]
            text = self.run([*command, "--backend", "cpu", "--threads", "1", *data.options, *options])
            self.answers[key] = json.loads(text)["results"]
        return self.answers[key]


def value(result):
    if result["value"] is None:
        raise RuntimeError(f"undefined: {result['undefined']}")
    return float(result["value"])  # infinities are texts


# ---- comparing -----------------------------------------------------------------------------------


class Comparison:
    """One call of a library against one metric, over some data.

    `read` takes cupel's number or numbers from the first result, with `whole` from the list of all.
    `ask(cupel, data)` asks something else than the metrics `spec`, which then only names it.
    Tolerances are absolute. Libraries that compute in the type of the data get `single` for float32;
    so does every other one, since some of them convert and some do not.
    """

    def __init__(self, library, call, spec, data, function, double=1e-12, single=2e-6, read=value,
                 whole=False, ask=None):
        self.library, self.call, self.spec, self.data = library, call, spec, data
        self.function, self.double, self.single = function, double, single
        self.read = read if whole or ask else lambda results: read(results[0])
        self.ask = ask or (lambda cupel, data: cupel.results(data, spec))


def shown(value):
    if np.ndim(value) == 0:
        return f"{float(value):.15g}"
    if len(value) <= 3:
        return " ".join(f"{float(v):.6g}" for v in value)
    return f"[{len(value)} numbers]"


def largest_difference(ours, theirs):
    """The largest absolute difference; equal infinities do not differ, different shapes infinitely."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.shape != theirs.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        difference = np.where(ours == theirs, 0.0, np.abs(ours - theirs))
    return float(np.max(difference, initial=0.0))


def compare(cupel, comparison, data, reason):
    """(verdict, cupel's value, the library's, the difference, a note). `reason`: why they may differ."""
    try:
        result = comparison.ask(cupel, data)
    except Unknown as why:
        return "not here", None, None, None, str(why)
    except RuntimeError as why:
        return "FAILED", None, None, None, str(why)
    try:
        theirs = comparison.call(data)
    except Exception as why:  # noqa: BLE001: whatever a library throws is its answer
        if reason is not None:
            return "known", None, None, None, reason
        note = " ".join(f"{type(why).__name__}: {why}".split())
        return "FAILED", None, None, None, note[:200]
    try:
        ours = comparison.read(result)
    except (RuntimeError, KeyError, TypeError) as why:
        return "FAILED", None, theirs, None, repr(why)
    difference = largest_difference(ours, theirs)
    tolerance = comparison.single if data.single else comparison.double
    agree = difference <= tolerance  # false for nan
    if agree and reason is not None:
        return "FAILED", ours, theirs, difference, f"agrees, but is listed: {reason}"
    if agree:
        return "agrees", ours, theirs, difference, ""
    if reason is not None:
        return "known", ours, theirs, difference, reason
    return "DIFFERS", ours, theirs, difference, f"tolerance {tolerance:g}"


# ---- the report ----------------------------------------------------------------------------------


def short(spec):
    """`coverage(x),set_size(x)` as `coverage, set_size (x)`."""
    parts = re.fullmatch(r"(\w+)\(([^()]*)\),(\w+)\(\2\)", spec)
    return f"{parts[1]}, {parts[3]} ({parts[2]})" if parts else spec


def comparison_table(rows, known, packages):
    """Lines of Markdown: a line for each comparison that was made, then the known differences."""
    table = ["| library | call | cupel | difference, f64 | f32 | |", "|---|---|---|---|---|---|"]
    for comparison, package, version, worst, verdicts in rows:
        # Nothing agreed of the kind: no number.
        f64, f32 = (f"{worst[single]:.0e}" if worst[single] is not None else "" for single in (False, True))
        cells = [f"{package} {version}", f"`{comparison.function}`", f"`{short(comparison.spec)}`", f64, f32,
                 "but see below" if "known" in verdicts else ""]  # fmt: skip
        table.append("| " + " | ".join(cells) + " |")
    table += ["", "Known differences, and the data where they show:", ""]
    for library, specs, names, reason in known:
        calls = ", ".join(f"`{short(spec)}`" for spec in specs)
        table.append(f"- {packages[library][0]} beside {calls} ({', '.join(names)}): {reason}.")
    return table


def replace_block(path, begin, end, lines):
    """Replaces what stands between the lines `begin` and `end` of a document."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(begin + "\n")
    _, after = rest.split(end)
    path.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + after, encoding="utf-8")


def main(description, make_data, comparisons, known, packages, marks, more=None):
    """Runs every comparison and prints the report; the exit code.

    `known`: (library, specs, names of data, reason), each needed by at least one comparison's data.
    `marks`: the lines of the document between which --write puts the table.
    `more(cupel)`: further checks, as a list of lines for the document and a list of failures.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cupel", default=str(ROOT / "build" / "bin" / "cupel"))
    parser.add_argument("--all", action="store_true", help="a line for every comparison")
    parser.add_argument("--write", metavar="FILE", help="put the table into FILE, between its marks")
    arguments = parser.parse_args()
    if not os.access(arguments.cupel, os.X_OK):
        print(f"oracles skipped: no {arguments.cupel}")
        return SKIPPED
    cupel = Cupel(arguments.cupel)
    counts = dict.fromkeys(["agrees", "known", "not here", "not installed", "DIFFERS", "FAILED"], 0)
    lines, rows, notes = [], [], set()

    def known_reason(comparison, name):
        for library, specs, names, reason in known:
            if library == comparison.library and comparison.spec in specs and name in names:
                return reason
        return None

    with tempfile.TemporaryDirectory(prefix="cupel-oracles-") as folder:
        sets = make_data()
        for data in sets.values():
            data.write(pathlib.Path(folder))
        for comparison in comparisons():
            package, loaded = packages[comparison.library]
            if loaded is None:
                counts["not installed"] += len(comparison.data)
                notes.add(f"{package} is not installed: its comparisons were skipped")
                continue
            version = importlib.metadata.version(package)
            # The largest difference by whether the data are float32.
            worst, verdicts = {False: None, True: None}, set()
            for name in comparison.data:
                verdict, ours, theirs, difference, note = compare(
                    cupel, comparison, sets[name], known_reason(comparison, name)
                )
                counts[verdict] += 1
                verdicts.add(verdict)
                if verdict == "agrees":
                    single = sets[name].single
                    worst[single] = max(worst[single] or 0.0, difference)
                if verdict == "not here":
                    notes.add(f"skipped {comparison.spec}: {note}")
                    continue
                if verdict == "agrees" and not arguments.all:
                    continue
                lines.append([comparison.library, comparison.function, version, comparison.spec, name,
                              "" if ours is None else shown(ours),
                              "" if theirs is None else shown(theirs),
                              "" if difference is None else f"{difference:.2g}", verdict, note])  # fmt: skip
            if verdicts != {"not here"}:
                rows.append((comparison, package, version, worst, verdicts))
        further, failures = more(cupel) if more else ([], [])
    if arguments.write:
        table = comparison_table(rows, known, packages)
        replace_block(pathlib.Path(arguments.write), *marks, table + further)
    head = ["library", "function", "version", "cupel", "data", "cupel's value", "library's value",
            "difference", "verdict", ""]  # fmt: skip
    if lines:
        widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head) - 1)]
        for line in [head, *lines]:
            text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths))
            print((text + "  " + line[-1]).rstrip())
    for note in sorted(notes):
        print(note)
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{cupel.version}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    return 1 if counts["DIFFERS"] + counts["FAILED"] + len(failures) else 0
