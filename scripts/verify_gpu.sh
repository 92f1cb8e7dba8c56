#!/bin/sh
# Verifies cupel on the GPU of this machine, from an archive of scripts/pack_gpu.sh or in a checkout
# with a finished build, and writes one JSON: what ran, what passed, and how fast it was. Needs no
# network. Exits 0 when every step that ran passed, 1 when one failed, 2 for a wrong option.
#
#     scripts/verify_gpu.sh OUT.json [--quick] [--no-sanitizer] [--no-peers] [--minutes N]
#                           [--host-memory BYTES] [--build FOLDER]
#
# --quick takes a fiftieth of the rows; --minutes is the time for all steps (9), of which those that come
# too late are left out; --host-memory is passed on to device_bench. The file is rewritten after every
# step, and a step that fails stops no other. What was left out, or is not on this machine, is
# written down as that.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
usage() {
  sed -n 's/^# \{4,\}\(scripts\/verify_gpu.sh .*\)/usage: \1/p; s/^# \{20,\}\(\[.*\)/         \1/p' "$0" >&2
  exit 2
}
out=
quick=
sanitizer=yes
peers=yes
minutes=9
host_memory=
build=
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=--quick ;;
    --no-sanitizer) sanitizer=no ;;
    --no-peers) peers=no ;;
    --minutes | --host-memory | --build)
      [ $# -ge 2 ] || usage
      case $1 in
        --minutes) minutes=$2 ;;
        --host-memory) host_memory=$2 ;;
        --build) build=$2 ;;
      esac
      shift
      ;;
    -*) usage ;;
    *)
      [ -z "$out" ] || usage
      out=$1
      ;;
  esac
  shift
done
[ -n "$out" ] || usage
case $minutes in '' | *[!0-9]*) usage ;; esac
if [ ! -d "$(dirname "$out")" ]; then
  echo "verify_gpu: $(dirname "$out") is no folder" >&2
  exit 2
fi
if ! command -v python3 >/dev/null 2>&1; then
  echo "verify_gpu: python3 is needed to write the result" >&2
  exit 2
fi

# ---- what is verified -----------------------------------------------------------------------------
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$build" ] && [ -f "$root/VERSION" ]; then
  cupel=$root/bin/cupel
  bench=$root/bin/device_bench
  # What a tool starts that runs the program itself.
  cupel_program=$root/libexec/cupel
  bench_program=$root/libexec/device_bench
  tests=$root/tests
  names=$root/kernels/names.txt
  version=$root/VERSION
  # For cupel's programs alone: others here may not want these libraries.
  libraries=$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
else
  build=${build:-$root/build}
  cupel=$build/bin/cupel
  bench=$build/bench/device_bench
  cupel_program=$cupel
  bench_program=$bench
  tests=$build
  names=$work/names.txt
  version=$work/VERSION
  libraries=${LD_LIBRARY_PATH:-}
  log=$build/CMakeFiles/cupel_cuda.dir/kernels/cuda_pipelines.cu.o.log
  if ! python3 "$root/scripts/check_kernels.py" --names "$log" >"$names" 2>/dev/null; then
    echo "verify_gpu: $build is no build with kernels" >&2
    exit 2
  fi
  echo "commit $(git -C "$root" describe --always --abbrev=40 --exclude='*' --dirty)" >"$version"
fi

# ---- steps ----------------------------------------------------------------------------------------
deadline=$(($(date +%s) + minutes * 60))
failed=0
: >"$work/steps"

# record NAME STATUS SECONDS [LOG]: a line for gpu_report.py, which takes the detail from the log's end.
record() {
  printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$work/steps"
  printf '%-12s %-14s %6s s\n' "$1" "$2" "$3"
  if [ "$2" = failed ]; then
    failed=1
    tail -n 5 "$work/$1.log" | sed 's/^/    /'
  fi
  python3 "$root/scripts/gpu_report.py" "$work" "$version" "$names" "$out" || failed=1
}
# leave_out NAME STATUS WHY
leave_out() {
  echo "$3" >"$work/$1.log"
  record "$1" "$2" 0
}
# step NAME MOST_SECONDS COMMAND...: standard output goes to NAME.out, both outputs to NAME.log.
# What cannot be had on this machine is no failure: peers say so with exit status 3, compute-sanitizer
# in words; and nvidia-smi is asked for facts alone.
step() {
  name=$1
  most=$2
  shift 2
  left=$((deadline - $(date +%s)))
  if [ "$left" -lt 10 ]; then
    leave_out "$name" skipped "no time was left of $minutes minutes"
    return
  fi
  [ "$most" -lt "$left" ] || most=$left
  start=$(date +%s%N)
  timeout --kill-after=5 "$most" "$@" >"$work/$name.out" 2>"$work/$name.err"
  status=$?
  seconds=$((($(date +%s%N) - start) / 1000000))
  seconds=$((seconds / 1000)).$(printf '%03d' $((seconds % 1000)))
  cat "$work/$name.out" "$work/$name.err" >"$work/$name.log"
  case $status in
    0) outcome=passed ;;
    124 | 137)
      outcome=failed
      echo "stopped after $most s" >>"$work/$name.log"
      ;;
    *)
      outcome=failed
      echo "exit status $status" >>"$work/$name.log"
      ;;
  esac
  case "$name $status" in
    "peers 3" | "smi "[!0]*) outcome="not available" ;;
    *) if grep -q "Device not supported" "$work/$name.log"; then outcome="not available"; fi ;;
  esac
  record "$name" "$outcome" "$seconds"
}
facts() {
  fields=index,name,driver_version,memory.total,memory.used,compute_cap
  fields=$fields,clocks.sm,clocks.mem,clocks.max.sm,power.limit
  step smi 30 nvidia-smi --format=csv --query-gpu="$fields"
}

# A device that `devices` only lists is not enough.
devices() {
  # shellcheck disable=SC2016  # for the shell that is started
  step devices 60 sh -c '
    "$1" devices --format json || exit
    "$1" devices --format json | grep -q "\"usable\": *true" || { echo "no usable GPU" >&2; exit 1; }' \
    sh "$cupel"
}

selftest() {
  step selftest 180 "$cupel" selftest --backend cuda --format json
}

# Skips are failures: the programs take CUPEL_REQUIRE_BACKEND as that, and what they say is looked at.
gpu_tests() {
  # shellcheck disable=SC2016
  step tests 240 env CUPEL_REQUIRE_BACKEND=cuda sh -c '
    if command -v ctest >/dev/null 2>&1; then
      ctest --test-dir "$1" -L "^gpu\$" --no-tests=error --output-on-failure
    else
      "$1/run_gpu.sh"
    fi >"$2" 2>&1
    status=$?
    cat "$2"
    if grep -q -e "\*\*\*Skipped" -e "  SKIPPED  *\]" -e "^skipped:" "$2"; then
      echo "a test was skipped" >&2
      exit 1
    fi
    exit "$status"' sh "$tests" "$work/tests.all"
}

benchmark() {
  step bench 240 "$bench" --output "$work/bench.json" \
    ${quick:+"$quick"} ${host_memory:+--host-memory "$host_memory"}
}

compare_peers() {
  if [ "$peers" = no ]; then
    leave_out peers skipped "--no-peers"
    return
  fi
  step peers 120 python3 "$root/scripts/gpu_peers.py" --cupel "$cupel" \
    --bench "$work/bench.json" --output "$work/peers.json" ${quick:+"$quick"}
}

sanitize() {
  for tool in memcheck racecheck initcheck synccheck; do
    if [ "$sanitizer" = no ]; then
      leave_out "$tool" skipped "--no-sanitizer"
    elif [ -z "$compute_sanitizer" ]; then
      leave_out "$tool" "not available" "no compute-sanitizer on this machine"
    else
      # The quick self-test has no table large enough for a histogram of 16-bit scores.
      # shellcheck disable=SC2016  # for the shell that is started
      step "$tool" 100 env LD_LIBRARY_PATH="$libraries" sh -c '
        "$1" --tool "$2" --error-exitcode 99 "$3" selftest --quick --backend cuda &&
          "$1" --tool "$2" --error-exitcode 99 "$4" --only auroc_f16 --rows 200000 --samples 7' \
        sh "$compute_sanitizer" "$tool" "$cupel_program" "$bench_program"
    fi
  done
}
compute_sanitizer=$(command -v compute-sanitizer || true)
if [ -z "$compute_sanitizer" ] && [ -x /usr/local/cuda/bin/compute-sanitizer ]; then
  compute_sanitizer=/usr/local/cuda/bin/compute-sanitizer
fi

if command -v nvidia-smi >/dev/null 2>&1; then
  facts
else
  leave_out smi "not available" "no nvidia-smi on this machine"
fi
devices
selftest
gpu_tests
benchmark
compare_peers
sanitize

if [ "$failed" = 0 ]; then
  echo "every step that ran passed: $out"
else
  echo "NOT verified: a step failed; $out has what each one said"
fi
exit "$failed"
