#!/bin/sh
# Makes the virtual environment of the Python scripts (.venv, or the folder given) with the pinned
# packages of requirements.txt. Says nothing and uses no network when it is up to date.
#
#     scripts/venv.sh [FOLDER]        then FOLDER/bin/python scripts/bench_eval.py
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../.venv}
wanted=$here/requirements.txt
stamp=$folder/requirements.installed

if [ -x "$folder/bin/python" ] && cmp -s "$wanted" "$stamp"; then
  exit 0
fi
if ! python3 -c 'import ensurepip' 2>/dev/null; then
  echo "python3 has no ensurepip; install python3-venv (scripts/install_deps.sh does)" >&2
  exit 2
fi
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
# Written last: an interrupted installation is repeated.
rm -f "$stamp"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" >&2
cp "$wanted" "$stamp"
