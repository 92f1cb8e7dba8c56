#!/bin/sh
# Installs what cupel builds and tests with, from Debian 12 (or a distribution with the same names).
# Idempotent; says nothing and uses no network when everything is there. Uses sudo when not
# root; where that is not possible it prints the command to run and exits 2.
#
#     scripts/install_deps.sh             everything
#     scripts/install_deps.sh --print     only the names of the packages, one per line
# shellcheck disable=SC2086  # lists of package names are split into words on purpose
set -eu

build="g++ cmake ninja-build ccache pkg-config"
libraries="libfmt-dev libcli11-dev nlohmann-json3-dev zlib1g-dev libzip-dev libdeflate-dev libxxhash-dev \
libhwy-dev libcsv-dev libfast-float-dev libboost-dev"
tests="libgtest-dev libbenchmark-dev"
tools="clang-format clang-tidy python3 python3-venv"
packages="$build $libraries $tests $tools"

case ${1:-} in
  "") ;;
  --print)
    printf '%s\n' $packages
    exit 0
    ;;
  *)
    echo "unknown option '$1'; usage: scripts/install_deps.sh [--print]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
  echo "no dpkg here; install what these Debian 12 packages hold: $packages" >&2
  exit 2
fi

missing=
for package in $packages; do
  # shellcheck disable=SC2016  # the format is dpkg's, not the shell's
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
  as_root=sudo  # may ask for a password, but only a person at a terminal
else
  echo "packages are missing and this user may not install them; run as root:" >&2
  echo "  apt-get install --yes --no-install-recommends$missing" >&2
  exit 2
fi

install() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet \
    --no-install-recommends -o DPkg::Lock::Timeout=120 $missing >&2
}
# The package lists of a fresh machine are empty or old: then update and try again.
if ! install 2>/dev/null; then
  $as_root apt-get update --quiet >&2
  install
fi
