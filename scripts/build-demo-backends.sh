#!/usr/bin/env bash
# Builds the Collector and Jaeger of the demo stack from their Go modules, for machines that can't pull their images,
# and prints the folder that they are in. Needs Go; takes a quarter of an hour once, and no time while it is cached.
# Jaeger's user interface is not among its Go modules: this one has the query API alone.
set -euo pipefail
cd "$(dirname "$0")/../tests/stack"

builder=go.opentelemetry.io/collector/cmd/builder@v0.139.0
key=$(cat collector/manifest.yaml jaeger/go.mod jaeger/go.sum | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wirespan/demo-backends-$key
mkdir -p "$cache"
export CGO_ENABLED=0

if [ ! -x "$cache/otelcol-contrib" ]; then
  command -v go >/dev/null || { echo "build-demo-backends: needs Go" >&2; exit 3; }
  echo "build-demo-backends: building the Collector, which takes some minutes" >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  sed "s|^dist:|dist:\n  output_path: $work/source|" collector/manifest.yaml >"$work/manifest.yaml"
  nice go run "$builder" --config "$work/manifest.yaml" --skip-compilation >&2
  (cd "$work/source" && nice go build -trimpath -ldflags "-s -w" -o "$cache/otelcol-contrib.part" .)
  mv "$cache/otelcol-contrib.part" "$cache/otelcol-contrib"
fi
if [ ! -x "$cache/jaeger" ]; then
  command -v go >/dev/null || { echo "build-demo-backends: needs Go" >&2; exit 3; }
  echo "build-demo-backends: building Jaeger, which takes a quarter of an hour" >&2
  (cd jaeger && nice go build -mod=readonly -trimpath -ldflags "-s -w" -o "$cache/jaeger.part" \
    github.com/jaegertracing/jaeger/cmd/jaeger)
  mv "$cache/jaeger.part" "$cache/jaeger"
fi
echo "$cache"
