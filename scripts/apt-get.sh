#!/usr/bin/env bash
# apt-get that waits for another apt, as runs on any machine that has just booted, instead of failing at once. Takes the
# arguments of apt-get, and its place: needs the same rights.
#
# DPkg::Lock::Timeout covers the lock of dpkg only (apt 2.6); a held lock of the package lists is waited for here.
set -euo pipefail

wait_seconds=${APT_WAIT_SECONDS:-600}
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

said=false
# the error is recognised by its words, so apt must not translate them
until LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout="$wait_seconds" "$@" 2>"$errors"; do
  status=$?
  if ! grep -q '^E: Could not get lock' "$errors" || [ "$SECONDS" -ge "$wait_seconds" ]; then
    cat "$errors" >&2
    exit "$status"
  fi
  $said || echo "apt-get: waiting for another apt: $(grep -m 1 'Could not get lock' "$errors")" >&2
  said=true
  sleep 0.5
done
cat "$errors" >&2
