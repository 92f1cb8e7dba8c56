#!/bin/sh
# Compiler launcher for CUDA: runs the command, keeps what it says on standard error beside the object
# (OBJECT.log, for scripts/check_kernels.py), and shows of it what is no report of ptxas.
#
#     keep_ptxas_log.sh [ccache] nvcc ... -o OBJECT
set -u

object=
previous=
for argument in "$@"; do
  if [ "$previous" = -o ]; then object=$argument; fi
  previous=$argument
done
if [ -z "$object" ]; then exec "$@"; fi

"$@" 2>"$object.log"
status=$?
grep -v -e '^ptxas info' -e '^    *[0-9]* bytes ' -e '^ptxas .*Function properties' "$object.log" >&2
exit "$status"
