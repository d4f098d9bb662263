#!/usr/bin/env bash
# Builds a Go program that tests run, from the modules that its folder locks, and prints the binary's path. Needs Go; takes
# some minutes once, and no time as long as the binary is in the cache.
#
#   scripts/build-go-program.sh kube-apiserver            build if need be
#   scripts/build-go-program.sh kube-apiserver --path     only say where the binary is, or would be
set -euo pipefail
cd "$(dirname "$0")/.."

program=${1:-}
case $program in
  kube-apiserver) folder=tests/kubernetes/apiserver module=k8s.io/kubernetes package=k8s.io/kubernetes/cmd/kube-apiserver ;;
  helm) folder=tests/chart/helm module=helm.sh/helm/v3 package=helm.sh/helm/v3/cmd/helm ;;
  *) echo "build-go-program: builds kube-apiserver and helm, not '$program'" >&2; exit 2 ;;
esac
cd "$folder"

version=$(sed -n "s,^require $module ,,p" go.mod)
key=$(cat go.mod go.sum | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wirespan/$program-$version-$key
binary=$cache/$program

if [ "${2:-}" = --path ] || [ -x "$binary" ]; then
  echo "$binary"
  exit
fi
command -v go >/dev/null || { echo "build-go-program: needs Go" >&2; exit 3; }

# A module build doesn't know which version it is.
case $program in
  # What clients and the server's own feature gates go by.
  kube-apiserver) flags="-X k8s.io/component-base/version.gitVersion=$version" ;;
  # Which Kubernetes is taken for granted where there is no cluster: the one of its client library, v0.35.1 being 1.35.
  helm)
    minor=$(sed -n 's,^.*k8s.io/client-go v0\.\([0-9]*\)\..*,\1,p' go.mod)
    flags="-X $module/internal/version.version=$version"
    for place in pkg/chartutil pkg/lint/rules; do
      flags="$flags -X $module/$place.k8sVersionMajor=1 -X $module/$place.k8sVersionMinor=$minor"
    done
    ;;
esac
echo "build-go-program: building $program $version, which takes some minutes" >&2
mkdir -p "$cache"
CGO_ENABLED=0 nice go build -mod=readonly -trimpath -ldflags "-s -w $flags" -o "$binary.part" "$package"
mv "$binary.part" "$binary"
echo "$binary"
