#!/bin/sh
# Makes a virtual environment with pinned packages. Says nothing and uses no network when it is up to
# date.
#
#     scripts/venv.sh [FOLDER]                  .venv: the Python scripts (scripts/requirements.txt);
#                                               then FOLDER/bin/python scripts/bench_eval.py
#     scripts/venv.sh --oracles [FOLDER]        .venv-oracles: what tests/oracles compares with
#     scripts/venv.sh --oracles-torch [FOLDER]  ... and torchmetrics and netcal, which need torch:
#                                               2.5 GB to download, 5 GB on disk
#     scripts/venv.sh --oracles-conformal [FOLDER]  ... and TorchCP, crepes and puncc
set -eu

here=$(cd "$(dirname "$0")" && pwd)
oracles=$here/../tests/oracles
folder=$here/../.venv
kind=scripts
case ${1:-} in
  --oracles | --oracles-torch | --oracles-conformal)
    kind=${1#--}
    folder=$here/../.venv-oracles
    shift
    ;;
  -*)
    echo "usage: scripts/venv.sh [--oracles|--oracles-torch|--oracles-conformal] [FOLDER]" >&2
    exit 2
    ;;
esac
folder=${1:-$folder}
case $kind in
  scripts) set -- "$here/requirements.txt" ;;
  oracles) set -- "$oracles/requirements.txt" ;;
  oracles-torch) set -- "$oracles/requirements.txt" "$oracles/requirements-torch.txt" ;;
  oracles-conformal)
    set -- "$oracles/requirements.txt" "$oracles/requirements-torch.txt" "$oracles/requirements-conformal.txt"
    ;;
esac
stamp=$folder/requirements.installed

if [ -x "$folder/bin/python" ] && cat "$@" | cmp -s - "$stamp"; then
  exit 0
fi
if ! python3 -c 'import ensurepip' 2>/dev/null; then
  echo "python3 has no ensurepip; install python3-venv (scripts/install_deps.sh does)" >&2
  exit 2
fi
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
# Written last: an interrupted installation is repeated.
rm -f "$stamp"
for list in "$@"; do
  case $list in
    *-conformal.txt) dependencies=--no-deps ;; # the list says why
    *) dependencies= ;;
  esac
  "$folder/bin/python" -m pip install $dependencies --quiet --disable-pip-version-check --requirement "$list" >&2
done
cat "$@" >"$stamp"
