#!/usr/bin/env bash
# Builds the kube-apiserver that tests/kubernetes runs, from the Go modules that tests/kubernetes/apiserver locks, and
# prints its path. Needs Go; takes some minutes once, and no time as long as the binary is in the cache.
#
#   scripts/build-apiserver.sh            build if need be
#   scripts/build-apiserver.sh --path     only say where the binary is, or would be
set -euo pipefail
cd "$(dirname "$0")/../tests/kubernetes/apiserver"

version=$(sed -n 's/^require k8s.io\/kubernetes //p' go.mod)
key=$(cat go.mod go.sum | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wirespan/kube-apiserver-$version-$key
binary=$cache/kube-apiserver

if [ "${1:-}" = --path ] || [ -x "$binary" ]; then
  echo "$binary"
  exit
fi
command -v go >/dev/null || { echo "build-apiserver: needs Go (https://go.dev/dl)" >&2; exit 3; }
echo "build-apiserver: building kube-apiserver $version, which takes some minutes" >&2
mkdir -p "$cache"
# The version is what clients and the server's own feature gates go by; a module build doesn't know it.
CGO_ENABLED=0 nice go build -mod=readonly -trimpath \
  -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" \
  -o "$binary.part" k8s.io/kubernetes/cmd/kube-apiserver
mv "$binary.part" "$binary"
echo "$binary"
