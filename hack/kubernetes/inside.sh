# What the checks of hack/kubelet and hack/cluster share inside a node: the programs that run there, and how a check is
# told. Sourced by scripts that hack/kubernetes/node started.
# shellcheck shell=bash disable=SC2154
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

programs=$target/kubernetes/bin
PATH=$programs:$PATH
socket=/run/cais/cri.sock
caisd=$build_dir/caisd
passed=0 failed=0
# Seconds that anything waited for may take: many times what it does take, for a machine that is slow or busy.
patience=240

cri() { crictl --config /dev/null --runtime-endpoint "unix://$socket" --timeout 120s "$@"; }
api() { curl -fsSk --max-time "$patience" "https://127.0.0.1:10250$1"; }

# start NAME PROGRAM [ARGUMENT...]: runs the program in the background, with its log in $logs.
start() {
  local name=$1
  shift
  setsid "$@" >>"$logs/$name.log" 2>&1 </dev/null &
  echo $! >"/run/$name.pid"
  disown
}

# finish NAME [SIGNAL]: ends what `start` started, and waits until it has ended.
finish() {
  local pid
  pid=$(cat "/run/$1.pid")
  kill "-${2:-TERM}" "$pid"
  wait_for $patience "the end of $1" process_ended "$pid"
}

process_ended() { ! kill -0 "$1" 2>/dev/null; }

# The registry of hack/registry once more: the one outside cannot be reached from here, but its files can.
start_registry() {
  start registry "$target/registry/deb/usr/bin/docker-registry" serve "$target/registry/config.yml"
  wait_for $patience "the registry" curl -fsS "http://$registry_address/v2/"
}

start_caisd() {
  mkdir -p /etc/cais
  [ -e /etc/cais/config.toml ] || printf '[registry]\nconfig_path = "%s"\n' "$certs_dir" >/etc/cais/config.toml
  start caisd "$caisd"
  wait_for $patience "caisd (see $logs/caisd.log)" cri info
}

# start_kubelet FILE [FLAG...]: with that configuration.
start_kubelet() {
  start kubelet "$programs/kubelet" --config "$1" --hostname-override node1 --node-ip 192.0.2.10 "${@:2}"
  wait_for $patience "kubelet (see $logs/kubelet.log)" api /healthz
}

# check NAME COMMAND...: runs the command in a shell of its own that ends at the first error; its output is shown
# when it fails. With a pattern in $only, just the checks whose name matches are run.
check() {
  local name=$1 status=0 started=${EPOCHREALTIME/./} output
  shift
  [[ $name =~ ${only:-} ]] || return 0
  set +e
  (set -e; "$@") >"/run/check.out" 2>&1
  status=$?
  set -e
  output=$(printf '%d.%d s' $(((${EPOCHREALTIME/./} - started) / 1000000)) $(((${EPOCHREALTIME/./} - started) / 100000 % 10)))
  if [ $status = 0 ]; then
    passed=$((passed + 1))
    echo "ok      $name ($output)"
  else
    failed=$((failed + 1))
    echo "FAILED  $name ($output)"
    tail -n 40 /run/check.out | sed 's/^/        /'
  fi
}

# same WANTED GOT: both must be equal.
same() { [ "$1" = "$2" ] || { printf 'wanted: %s\ngot:    %s\n' "$1" "$2" && return 1; }; }

# until_true SECONDS COMMAND...: repeats the command until it succeeds.
until_true() {
  local deadline=$((SECONDS + $1)) output
  shift
  until output=$("$@" 2>&1); do
    if [ $SECONDS -ge $deadline ]; then
      echo "never came true: $*: $output"
      return 1
    fi
    sleep 0.2
  done
}
