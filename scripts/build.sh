#!/bin/sh
# Configures and builds one target in one folder: what try.sh and test.sh share. Installs packages
# first. On a terminal the compiler's progress is shown, else only what fails.
#
#     scripts/build.sh FOLDER TARGET [CMAKE_OPTION...]
set -eu

if [ $# -lt 2 ]; then
  echo "usage: scripts/build.sh FOLDER TARGET [CMAKE_OPTION...]" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$1
target=$2
shift 2

"$root/scripts/install_deps.sh"

mkdir -p "$folder"
log=$folder/build.log
fail() {
  cat "$log" >&2
  echo "$1 failed; the output above is in $log" >&2
  exit 1
}

# A folder keeps the generator that it was made with.
if [ ! -f "$folder/CMakeCache.txt" ] && command -v ninja >/dev/null 2>&1; then
  set -- -G Ninja "$@"
fi
cmake -S "$root" -B "$folder" "$@" >"$log" 2>&1 || fail "cmake"
if [ -t 1 ]; then
  cmake --build "$folder" --target "$target" --parallel "$(nproc)"
else
  cmake --build "$folder" --target "$target" --parallel "$(nproc)" >"$log" 2>&1 || fail "the build"
fi
