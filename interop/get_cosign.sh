#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetch cosign from Debian's suite sid and unpack it below DIRECTORY, without installing it or touching apt's own state.
#   interop/get_cosign.sh DIRECTORY
# The mirror is the one that this machine's apt is set up with. The package must have the SHA-256 in interop/cosign.txt;
# for another one, say which: COSIGN_SHA256=<64 hexadecimal digits> interop/get_cosign.sh DIRECTORY
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/apt/lists/partial" "$1/apt/cache/archives/partial" "$1/apt/etc" "$1/root"
out=$(cd "$1" && pwd)
# shellcheck disable=SC2016  # the format is apt's
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$') ||
  { echo "no Debian mirror in the configuration of apt"; exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$out/apt/etc/sources.list"
touch "$out/apt/status"
apt() {
  command=$1; shift
  "$command" -qq -o Dir::State="$out/apt" -o Dir::State::lists="$out/apt/lists" -o Dir::State::status="$out/apt/status" \
    -o Dir::Cache="$out/apt/cache" -o Dir::Etc::sourcelist="$out/apt/etc/sources.list" -o Dir::Etc::sourceparts=- \
    -o APT::Sandbox::User="$(id -un)" "$@"
}
apt apt-get update
rm -f "$out"/cosign_*.deb
(cd "$out" && apt apt-get download cosign)
package=$(ls "$out"/cosign_*.deb)
found=$(sha256sum "$package" | cut -d' ' -f1)
wanted=${COSIGN_SHA256:-$(cut -d' ' -f2 "$here/cosign.txt")}
if [ "$found" != "$wanted" ]; then
  echo "$(basename "$package"): expected SHA-256 $wanted, found $found; nothing was unpacked"
  exit 1
fi
dpkg -x "$package" "$out/root"
dpkg-deb -f "$package" Version >"$out/version"
echo "cosign $(cat "$out/version") in $out/root/usr/bin"
