# Shared by the scripts in hack/: paths, messages, and the few things several of them do. Sourced, never run.
# shellcheck shell=bash disable=SC2034
set -euo pipefail
shopt -s inherit_errexit

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
registry_port=${CAIS_REGISTRY_PORT:-5055}
registry_address=127.0.0.1:$registry_port
certs_dir=$target/certs.d
tools_bin=$target/tools/bin
# Which build the tests run: `release` is what is shipped, CAIS_PROFILE=dev is built sooner.
profile=${CAIS_PROFILE:-release}
build_dir=$target/$(uname -m)-unknown-linux-gnu/${profile/#dev/debug}
export PATH=$tools_bin:$target/go/bin:$PATH:/usr/sbin:/sbin
export LC_ALL=C

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "must be run as root"; }

# up_to_date STAMP KEY...: whether STAMP was written by `stamp` for the same keys and the same contents of
# every key that names a file.
up_to_date() { [ -f "$1" ] && [ "$(cat "$1")" = "$(fingerprint "${@:2}")" ]; }
stamp() { fingerprint "${@:2}" >"$1.new" && mv "$1.new" "$1"; }
fingerprint() {
  local key
  for key in "$@"; do
    if [ -f "$key" ]; then sha256sum <"$key"; else printf '%s\n' "$key"; fi
  done | sha256sum
}

# wait_for SECONDS WHAT COMMAND...: repeats the command until it succeeds.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || die "waited too long for $what"
    sleep 0.1
  done
}

# runs PIDFILE PROGRAM: whether the process of the pid file still is that program, not a reused number.
runs() { [ -s "$1" ] && [ "/proc/$(cat "$1")/exe" -ef "$2" ]; }
ended() { ! runs "$@"; }

# stop_pid PIDFILE PROGRAM: ends the process of the pid file and waits until it is gone.
stop_pid() {
  if runs "$1" "$2"; then
    local pid
    pid=$(cat "$1")
    kill "$pid"
    wait_for 20 "the end of process $pid" ended "$1" "$2"
  fi
  rm -f "$1"
}

# extract_debs DIRECTORY PACKAGE...: unpacks the packages and all they depend on below DIRECTORY, without
# installing anything and without running their scripts. Uses the machine's own apt sources, or those of
# the apt configuration in $apt_config.
extract_debs() {
  local root=$1 archives=$1.debs
  shift
  rm -rf "$root"
  mkdir -p "$root" "$archives/partial"
  apt-get ${apt_config:+-c "$apt_config"} -qq -y --no-install-recommends --download-only \
    -o Dir::State::status=/dev/null -o Dir::Cache::archives="$archives" -o APT::Sandbox::User=root \
    -o Debug::NoLocking=1 install "$@"
  local deb
  for deb in "$archives"/*.deb; do dpkg-deb -x "$deb" "$root"; done
  rm -rf "$archives"
}

# extract_sid_debs DIRECTORY PACKAGE...: the same from Debian sid.
extract_sid_debs() { with_sid "$1" extract_debs "$@"; }

with_sid() { with_debian sid "$@"; }

# extract_deb DIRECTORY PACKAGE...: unpacks these packages alone; what they depend on is there or not needed.
extract_deb() {
  local root=$1 deb
  rm -rf "$root"
  mkdir -p "$root"
  (cd "$root" && apt-get ${apt_config:+-c "$apt_config"} -qq download "${@:2}" \
    && for deb in ./*.deb; do dpkg-deb -x "$deb" . && rm "$deb"; done)
}

# with_debian RELEASE DIRECTORY COMMAND...: runs the command with $apt_config for that release, on the machine's own Debian
# mirror. A mirror may lag behind; signatures are checked. What apt keeps lies beside DIRECTORY meanwhile.
with_debian() {
  local release=$1 home=$2.apt mirror
  shift 2
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
  [ -n "$mirror" ] || die "no Debian mirror among the apt sources"
  mkdir -p "$home/lists/partial" "$home/cache"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$home/sources.list"
  cat >"$home/conf" <<EOF
Dir::Etc::sourcelist "$home/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$home/lists";
Dir::Cache "$home/cache";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
EOF
  apt-get -c "$home/conf" -qq update
  apt_config=$home/conf "$@"
  rm -rf "$home"
}
