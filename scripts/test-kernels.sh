#!/usr/bin/env bash
# Loads the kernel side under other kernels and captures a known number of requests there (tests/kernels). Needs root, a
# network, and about six minutes: the kernels run under emulation, over this machine's own files.
#
#   scripts/test-kernels.sh [SUITE …]   Debian suites whose kernel to take; default: bullseye (5.10) and bookworm (6.1)
set -euo pipefail
cd "$(dirname "$0")/.."

cache=$PWD/.cache/kernels
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(bullseye bookworm)
mkdir -p "$cache"

install_emulator() {
  # virtme-ng puts a static busybox into the guest's first file system, and depmod indexes the kernel's modules
  command -v qemu-system-x86_64 >/dev/null && command -v busybox >/dev/null && command -v depmod >/dev/null ||
    scripts/apt-get.sh install -y -qq --no-install-recommends qemu-system-x86 busybox-static kmod >/dev/null
  [ -x "$cache/virtme/bin/vng" ] && return
  python3 -m venv "$cache/virtme"
  "$cache/virtme/bin/pip" install --quiet --disable-pip-version-check virtme-ng==1.42
}

# The mirror that this machine itself takes a suite from (`bookworm`, `bookworm-security`), as a URL.
mirror_of() {
  # shellcheck disable=SC2016  # the placeholders are apt's
  apt-get indextargets --format '$(SITE) $(RELEASE)' | awk -v release="$1" '$2 == release { print $1; exit }'
}

# Unpacks the newest kernel of a suite without installing it.
unpack_kernel() {
  local suite=$1 work=$cache/$1 host options package
  [ -d "$work/lib/modules" ] && return
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  host=$(. /etc/os-release && echo "$VERSION_CODENAME")
  printf 'deb [signed-by=%s] %s main\n' \
    "$keyring" "$(mirror_of "$host") $suite" "$keyring" "$(mirror_of "$host-security") $suite-security" >"$work/sources.list"
  options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache::archives=$work/archives" -o APT::Sandbox::User=root)
  scripts/apt-get.sh "${options[@]}" update -qq
  package=$(apt-cache "${options[@]}" depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  [ -n "$package" ] || { echo "test-kernels: $suite has no linux-image-amd64" >&2; return 1; }
  (cd "$work" && apt-get "${options[@]}" download -qq "$package" && dpkg -x "$package"_*.deb . && rm "$package"_*.deb)
  rm -rf "$work/lists" "$work/archives"
  depmod -b "$work" "$(ls "$work/lib/modules")"
}

run_under() {
  local work=$cache/$1 release script result=$cache/$1/result
  release=$(ls "$work/lib/modules")
  script=$work/guest.sh
  # emulation has no channel for the exit status, so the verdict is a line
  printf 'ip link set lo up\ncd %q\n%q -m tests.kernels && echo KERNEL-PASSED\n' "$PWD" "$PWD/.venv/bin/python" >"$script"
  # KVM may be there and yet not work; --verbose, or nothing of the guest's output appears
  (cd "$work" && PATH="$cache/virtme/bin:$PATH" timeout 900 vng --disable-kvm --verbose --force-9p \
    -r "boot/vmlinuz-$release" --user root --memory 3G --cpus 2 --exec "sh $script" </dev/null >"$result" 2>&1) || true
  tr -d '\r' <"$result" | grep '^Linux ' || true
  if ! grep -q KERNEL-PASSED "$result"; then
    echo "test-kernels: $1 ($release) failed; the guest's output is in $result" >&2
    return 1
  fi
}

install_emulator
failed=0
for suite in "${suites[@]}"; do
  unpack_kernel "$suite"
  run_under "$suite" || failed=1
done
exit $failed
