#!/bin/sh
# Builds the tests in build/ and runs them all; ends with ctest's summary, and with 1 when a test
# failed (then its output comes before).
#
#     scripts/test.sh                 the tests, optimised
#     scripts/test.sh --sanitizers    first under ASan + UBSan (build-asan/) and TSan (build-tsan/)
#
# Dumps beyond those of data/ are tested when CUPEL_EXTRA_DATA names a folder that has them.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
sanitizers=${1:-}
if [ $# -gt 1 ] || { [ $# -eq 1 ] && [ "$sanitizers" != --sanitizers ]; }; then
  echo "usage: scripts/test.sh [--sanitizers]" >&2
  exit 2
fi

if [ -n "${CUPEL_EXTRA_DATA:-}" ]; then
  echo "CUPEL_EXTRA_DATA is set: the dumps in $CUPEL_EXTRA_DATA are tested too"
else
  echo "CUPEL_EXTRA_DATA is not set: only the dumps in data/ are tested"
fi

# run FOLDER [OPTION OF CTEST...]: ctest's summary, after the output of the tests that failed.
run() {
  folder=$1
  shift
  log=$root/$folder/ctest.log
  echo "testing $folder"
  if $unrandomised ctest --test-dir "$root/$folder" --output-on-failure --no-tests=error \
    --parallel "$(nproc)" "$@" >"$log" 2>&1; then
    sed -n '/tests passed/,$p' "$log"
  else
    sed -e '/^ *Start /d' -e '/^ *[0-9]*\/[0-9]* Test .* Passed /d' "$log"
    return 1
  fi
}

# instrumented FOLDER TARGET WHAT SANITIZERS [OPTION OF CTEST...]: with assertions; optimised just enough
# for tests that take seconds to take seconds.
instrumented() {
  folder=$1
  echo "building $folder ($3)"
  "$root/scripts/build.sh" "$root/$folder" "$2" -DCMAKE_BUILD_TYPE=Debug \
    -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" -DCUPEL_SANITIZE="$4" -DCUPEL_TESTS=ON
  shift 4
  run "$folder" "$@"
}

unrandomised=
if [ -n "$sanitizers" ]; then
  # Left out: the install check and the rules of the tree, which run nothing that is instrumented,
  # and the libraries, which say nothing about memory.
  instrumented build-asan all "AddressSanitizer and UndefinedBehaviorSanitizer" address,undefined \
    --label-exclude '^(slow|install|tree|oracle)$'
  # For TSan only what runs more than one thread is built, and no other label may be asked for. The
  # layout of memory that TSan expects is not that of a kernel that randomises more bits.
  if setarch -R true 2>/dev/null; then unrandomised="setarch -R"; fi
  instrumented build-tsan threaded_tests "ThreadSanitizer" thread \
    --label-regex '^(backend|golden|dumps|sim)$'
  unrandomised=
fi

echo "building build (optimised)"
"$root/scripts/build.sh" "$root/build" all -DCMAKE_BUILD_TYPE=Release -DCUPEL_SANITIZE= \
  -DCUPEL_TESTS=ON
run build
