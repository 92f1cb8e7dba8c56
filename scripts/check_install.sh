#!/bin/sh
# Installs a finished build into a temporary folder, moves it elsewhere, and builds and runs the
# example against it with find_package(cupel), as a user would; exits 1 when the output is not the
# expected one. Not for builds with sanitizers, which need their flags at the user's link too.
#
#     scripts/check_install.sh BUILD_FOLDER
set -eu

if [ $# -ne 1 ] || [ ! -f "$1/cmake_install.cmake" ]; then
  echo "usage: scripts/check_install.sh BUILD_FOLDER (configured and built)" >&2
  exit 2
fi
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Says nothing about a step that goes well.
quietly() {
  "$@" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    echo "check_install: failed: $*" >&2
    exit 1
  }
}

quietly cmake --install "$build" --prefix "$work/staged"
# A package that remembers where it was installed breaks here.
mv "$work/staged" "$work/installed"
quietly cmake -S "$root/examples" -B "$work/build" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$work/installed"
quietly cmake --build "$work/build"

expect() {  # WHAT WANTED GOT
  if [ "$2" != "$3" ]; then
    printf 'check_install: %s\n--- expected\n%s\n--- got\n%s\n' "$1" "$2" "$3" >&2
    exit 1
  fi
}

# 3/4, 29/36 and 1/2 by hand; the last is scikit-learn's value in data/expected.json.
expect "the example" "auroc 0.75
auprc 0.80555555555555558
ks 0.5
auroc 0.99853666421999299" "$("$work/build/auroc" "$root/data/breast_cancer.csv")"

expect "the installed command" "$("$build/bin/cupel" --version)" \
  "$("$work/installed/bin/cupel" --version)"
echo "check_install: ok"
