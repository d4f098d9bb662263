#!/usr/bin/env bash
# Unpacks the headers of the suite's kernel as one tree into the folder that is named; apt's lists must be there.
#
# bcc insists on kernel headers, but any set will do (docs/design/0001-kernel-side.md). Installing the package would
# bring a compiler and 400 MB along; unpacked, its two halves are merged into one tree.
set -euo pipefail

target=${1:?usage: scripts/unpack-kernel-headers.sh FOLDER}
architecture=$(dpkg --print-architecture)
flavour=$(apt-cache depends "linux-headers-$architecture" | sed -n 's/.*Depends: \(linux-headers-[0-9].*\)/\1/p' | head -n 1)
[ -n "$flavour" ] || { echo "unpack-kernel-headers: apt has no linux-headers-$architecture" >&2; exit 1; }
common=${flavour%-"$architecture"}-common
work=$(mktemp -d)
(cd "$work" && apt-get -o APT::Sandbox::User=root download -qq "$flavour" "$common" && for deb in *.deb; do dpkg -x "$deb" tree; done)
rm -rf "$target"
mkdir -p "$target/include" "$target/arch"
cp -a "$work/tree/usr/src/$common/." "$target/"
cp -a "$work/tree/usr/src/$flavour/include/." "$target/include/"
cp -a "$work/tree/usr/src/$flavour/arch/." "$target/arch/"
# which package this is, for the list of what an image is made of
dpkg-deb -W --showformat '${Package}\t${Version}\t${Architecture}\n' "$work/$flavour"_*.deb >"$target/PACKAGE"
rm -rf "$work"
