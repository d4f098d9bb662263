#!/usr/bin/env bash
# Prepares a Debian machine to run wirespan from this checkout: Debian packages, kernel headers for bcc to
# compile against, and a virtual environment whose versions and hashes are locked.
#
#   scripts/setup.sh run      what `wirespan` itself needs
#   scripts/setup.sh develop  also what the checks and tests need
#   scripts/setup.sh image    what `make test-image` and `make test-stack` need besides
#   scripts/setup.sh servers  what `make test-servers` needs besides
#
# Each step leaves a stamp named after what went into it, so that a second run takes no time.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:?usage: scripts/setup.sh run|develop|image|servers}
venv=.venv
python=/usr/bin/python3 # Debian's bcc binding is compiled for Debian's interpreter

run_packages=(python3 python3-venv python3-bpfcc ca-certificates)
develop_packages=(bpftool clang-format curl docker.io etcd-server gcc golang-go libc6-dev libgnutls30 libssl-dev
  nghttp2-client nghttp2-server nginx-light nodejs openssl tcpdump wget)
image_packages=(debootstrap docker-compose)
servers_packages=(apache2-bin)

case $purpose in
  run) packages=("${run_packages[@]}") lock=locks/runtime.txt ;;
  develop) packages=("${run_packages[@]}" "${develop_packages[@]}") lock=locks/development.txt ;;
  image) packages=("${image_packages[@]}") ;;
  servers) packages=("${servers_packages[@]}") ;;
  *) echo "scripts/setup.sh: '$purpose' is none of 'run', 'develop', 'image' and 'servers'" >&2; exit 2 ;;
esac

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_updated=false
apt_update() {
  $apt_updated || as_root scripts/apt-get.sh update -qq
  apt_updated=true
}

is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Node and Go may also have come from elsewhere than Debian's packages
is_present() {
  is_installed "$1" && return
  case $1 in
    nodejs) command -v node >/dev/null ;;
    golang-go) command -v go >/dev/null ;;
    *) return 1 ;;
  esac
}

install_packages() {
  local missing=()
  for package in "${packages[@]}"; do
    is_present "$package" || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "setup: installing ${missing[*]}"
  apt_update
  # nginx and etcd are wanted as programs, not as services of this machine
  local policy=/usr/sbin/policy-rc.d own_policy=false
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    own_policy=true
  fi
  local result=0
  as_root scripts/apt-get.sh install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || result=$?
  if $own_policy; then as_root rm -f $policy; fi
  return $result
}

unpack_kernel_headers() {
  local target=$venv/share/wirespan/kernel-headers
  [ -e $target/include/linux/kconfig.h ] && return
  echo "setup: unpacking kernel headers for bcc"
  apt_update
  scripts/unpack-kernel-headers.sh $target
}

build_environment() {
  local stamp
  stamp=$venv/stamp-$purpose-$(cat "$lock" pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16)
  [ -e "$stamp" ] && return
  # everything a run needs is in the development lock too, at the same versions
  if [ "$purpose" = run ] && compgen -G "$venv/stamp-develop-*" >/dev/null; then return; fi
  [ -x $venv/bin/python ] || "$python" -m venv $venv
  echo "setup: installing locked Python packages"
  local pip=($venv/bin/pip install --quiet --disable-pip-version-check)
  "${pip[@]}" --require-hashes -r "$lock"
  "${pip[@]}" --require-hashes -r locks/build.txt
  "${pip[@]}" --no-deps --no-build-isolation --editable .
  # of the system's Python packages bcc alone is let in
  local site
  site=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  ln -sfn /usr/lib/python3/dist-packages/bcc "$site/bcc"
  rm -f $venv/stamp-"$purpose"-*
  touch "$stamp"
}

install_packages
if [ "$purpose" = image ] || [ "$purpose" = servers ]; then exit; fi
build_environment
unpack_kernel_headers
