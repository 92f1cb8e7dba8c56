#!/bin/sh
# Packs a finished CUDA build for a GPU node without a network: the command, the tests that run on a
# GPU, the benchmark, the libraries that these need beside the C and C++ ones, data and
# scripts/verify_gpu.sh, in one archive that runs from any folder of an x86-64 Linux whose glibc and
# libstdc++ are not older than those here.
#
#     scripts/pack_gpu.sh [BUILD] [-o ARCHIVE]     build/ and cupel-gpu.tar.gz when not given
#
# A build for many architectures packs better as ARCHIVE.tar.xz, where equal device code of several
# programs is kept once. Afterwards, on the node:
#
#     tar -xf cupel-gpu.tar.gz && cupel-gpu/scripts/verify_gpu.sh result.json
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
usage() {
  echo "usage: scripts/pack_gpu.sh [BUILD] [-o ARCHIVE.tar.gz]" >&2
  exit 2
}
build=
archive=cupel-gpu.tar.gz
while [ $# -gt 0 ]; do
  case $1 in
    -o)
      [ $# -ge 2 ] || usage
      archive=$2
      shift
      ;;
    -*) usage ;;
    *)
      [ -z "$build" ] || usage
      build=$1
      ;;
  esac
  shift
done
build=${build:-$root/build}

fail() {
  echo "pack_gpu: $1" >&2
  exit 1
}
[ -f "$build/CMakeCache.txt" ] || fail "$build is no build folder"
build=$(cd "$build" && pwd)
log=$build/CMakeFiles/cupel_cuda.dir/kernels/cuda_pipelines.cu.o.log
[ -f "$log" ] || fail "$build has no kernels; configure it with -DCUPEL_CUDA=ON"
for program in bin/cupel bench/device_bench; do
  [ -x "$build/$program" ] || fail "$build/$program is not built (CUPEL_TESTS=ON, CUPEL_BENCH=ON)"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/cupel-gpu
mkdir -p "$tree/bin" "$tree/libexec" "$tree/lib" "$tree/tests" "$tree/scripts" "$tree/kernels"

# ---- programs -----------------------------------------------------------------------------------
# program PATH FOLDER: the program in libexec/, and in FOLDER a script that starts it with lib/.
program() {
  name=$(basename "$1")
  install -m 755 "$1" "$tree/libexec/$name"
  strip "$tree/libexec/$name"
  cat >"$tree/$2/$name" <<END
#!/bin/sh
root=\$(cd "\$(dirname "\$0")/.." && pwd)
LD_LIBRARY_PATH="\$root/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
CUPEL_SOURCE_DIR=\$root
export LD_LIBRARY_PATH CUPEL_SOURCE_DIR
exec "\$root/libexec/$name" "\$@"
END
  chmod 755 "$tree/$2/$name"
}
program "$build/bin/cupel" bin
program "$build/bench/device_bench" bin

# Beside the tests on a GPU those that need none and are small: they show that the archive itself runs.
# The others read the source tree or start the command by the path that it was built at.
ctest --test-dir "$build" --show-only=json-v1 >"$work/tests.json" || fail "ctest cannot list the tests"
python3 "$root/scripts/relocate_tests.py" "$build" "$tree/tests" gpu core math io metric report kernels \
  <"$work/tests.json" || fail "the tests cannot be packed"
while read -r _ path; do
  [ -x "$path" ] || fail "$path is not built"
  program "$path" tests
done <"$tree/tests/PROGRAMS"
rm "$tree/tests/PROGRAMS"

# ---- libraries ----------------------------------------------------------------------------------
# Those of the system's own that every Linux has: bringing older ones along would break others.
for path in "$tree"/libexec/*; do ldd "$path"; done | awk '
  /not found/ { print "pack_gpu: " $1 " was not found" >"/dev/stderr"; exit 1 }
  $2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u >"$work/libraries"
while read -r path; do
  case $(basename "$path") in
    libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.* | libstdc++.so.* | libgcc_s.so.*) ;;
    *) install -m 644 "$path" "$tree/lib/$(basename "$path")" ;;
  esac
done <"$work/libraries"

# ---- what the programs read, and what runs them ---------------------------------------------------
cp -R "$root/data" "$tree/data"
cp -R "$root/tests/golden" "$tree/tests/golden"
rm -f "$tree"/tests/golden/*.cpp
for script in verify_gpu.sh gpu_report.py gpu_peers.py; do
  install -m 755 "$root/scripts/$script" "$tree/scripts/$script"
done
python3 "$root/scripts/check_kernels.py" --names "$log" >"$tree/kernels/names.txt" || fail "no kernel in $log"
commit=$(git -C "$root" describe --always --abbrev=40 --exclude='*' --dirty)
cat >"$tree/VERSION" <<END
commit $commit
version $("$build/bin/cupel" --version)
architectures $(sed -n "s/.*Compiling entry function .* for '\(sm_[0-9a-z]*\)'.*/\1/p" "$log" | sort -u | tr '\n' ' ')
END

case $archive in
  *.xz) XZ_OPT=-9 && export XZ_OPT ;; # its window spans several programs
esac
tar --create --auto-compress --file "$archive" --directory "$work" --owner=0 --group=0 cupel-gpu
printf '%s: %s, commit %s\n' "$archive" "$(du -h "$archive" | cut -f 1)" "$commit"
