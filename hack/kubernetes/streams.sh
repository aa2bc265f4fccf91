# What a kubelet streams between a client and a container, for hack/kubernetes/kubelet-checks, which sources this.
# shellcheck shell=bash disable=SC2154

# The client's size comes after the start; until then stty has none to tell.
await_size='until [ "$(stty size 2>/dev/null)" = "43 132" ]; do sleep 0.1; done'

exec_by() {
  local code=0
  running terminal
  becomes terminal "$(status_of net) | .ready"
  same "out" "$(timeout "$patience" node-client exec "$1" terminal-node1 net echo out)"
  same "given" "$(echo given | timeout "$patience" node-client exec "$1" -i terminal-node1 net cat)"
  same "err" "$(timeout "$patience" node-client exec "$1" terminal-node1 net sh -c 'echo err >&2' 2>&1 >/dev/null)"
  timeout "$patience" node-client exec "$1" terminal-node1 net sh -c 'exit 42' || code=$?
  same 42 $code
  same "fits" "$(timeout "$patience" node-client exec "$1" -t terminal-node1 net sh -c "$await_size; echo fits" | tr -d '\r')"
}

attach_by() {
  running terminal
  coproc attach { exec timeout "$patience" node-client attach "$1" -i terminal-node1 echo; }
  local pid=$attach_PID line
  echo "$1" >&"${attach[1]}"
  read -r -t "$patience" line <&"${attach[0]}"
  kill "$pid"
  same "heard $1" "$line"
  until_true "$patience" heard "$1"
}

attach_terminal() {
  running terminal
  coproc attach { exec timeout "$patience" node-client attach websocket -i -t terminal-node1 tty; }
  local pid=$attach_PID
  # In two parts, since the terminal repeats what is typed.
  echo "$await_size"'; echo "it" "fits"' >&"${attach[1]}"
  grep -m 1 'it fits' <&"${attach[0]}"
  kill "$pid"
}

heard() { grep "heard $1" /var/log/pods/default_terminal-node1_*/echo/0.log; }

# Five megabytes there and back through one forwarded port.
forward_by() {
  local port=$2 sum
  becomes terminal "$(status_of net) | .ready"
  coproc forward { exec timeout "$((2 * patience))" node-client forward "$1" terminal-node1 "$port:9000"; }
  local pid=$forward_PID
  read -r -t "$patience" <&"${forward[0]}"
  head -c 5000000 /dev/urandom >/run/sent
  socat -t "$patience" - "TCP:127.0.0.1:$port" </run/sent >/run/received
  sum=$(sha256sum </run/sent)
  kill "$pid"
  same "$sum" "$(sha256sum </run/received)"
}
