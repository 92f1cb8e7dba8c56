#!/bin/sh
# The first look: builds cupel in build/ and evaluates a real dump, the predictions of a forest on
# handwritten digits, overall and by how much ink a digit has. Then `build/bin/cupel --help`.
#
#     scripts/try.sh [ARGUMENTS OF cupel eval]      without any: data/digits_probs.npz --group ink
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
echo "building $root/build (some minutes the first time)" >&2
"$root/scripts/build.sh" "$root/build" cupel_command -DCMAKE_BUILD_TYPE=Release
if [ $# -eq 0 ]; then
  cd "$root"
  set -- data/digits_probs.npz --group ink
fi
echo "build/bin/cupel eval $*" >&2
exec "$root/build/bin/cupel" eval "$@"
