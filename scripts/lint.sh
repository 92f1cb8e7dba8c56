#!/bin/sh
# clang-format and clang-tidy over the whole tree; exits 1 on any finding. Needs a configured build.
#
#     scripts/lint.sh [BUILD]     BUILD is build/ when not given
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
if [ ! -f "$build/compile_commands.json" ]; then
  echo "no $build/compile_commands.json; configure first: cmake -S . -B $build" >&2
  exit 2
fi
git ls-files -z -- '*.cpp' '*.hpp' '*.cu' '*.cuh' | xargs -0 clang-format --dry-run -Werror
git ls-files -z -- 'host/*.cpp' 'kernels/*.cpp' | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p "$build" --quiet 2>/dev/null
