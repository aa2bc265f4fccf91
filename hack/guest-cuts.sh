# Power cuts: what a machine's disk holds when the power goes, and what the next boot makes of it. Sourced by hack/guest.
# shellcheck shell=bash disable=SC2154
#
# The guest's data disk is a fresh qcow2 overlay in every boot. qemu keeps the overlay's tables, which say where a block is,
# in its own memory until the guest asks for a flush: when qemu is killed, all that was written to new places since the last
# flush is gone, while what overwrote a place known at that flush has stayed. A disk with a volatile cache does the same.
# Every cut also shows that it was one, on a small disk beside: the guest writes one block there with a flush and then one
# without, both past its own cache; only the first may survive.

data_disk=$guest/data.raw
data_overlay=$guest/data.qcow2
control_disk=$guest/control.raw
control_overlay=$guest/control.qcow2

fresh_overlay() {
  rm -f "$2"
  qemu-img create -q -f qcow2 -F raw -b "$1" "$2"
}

# keep OVERLAY: what survived becomes the disk of the next boot.
keep() { qemu-img commit -q -f qcow2 "$1"; }

# boot_for NAME ACTION NUMBER
boot_for() {
  fresh_overlay "$data_disk" "$data_overlay"
  fresh_overlay "$control_disk" "$control_overlay"
  machine "$1" sid "init=/job/run apparmor=0 job=cuts action=$2 number=$3" \
    -drive "file=$data_overlay,if=virtio,format=qcow2,cache=writeback" \
    -drive "file=$control_overlay,if=virtio,format=qcow2,cache=writeback"
}

# make_context FILE: what the guest builds from. Its image has 42 files below /built, one of which has the sums of 40.
make_context() {
  local context=$guest/context number
  rm -rf "$context"
  mkdir -p "$context/sent"
  for number in {1..20}; do head -c 100000 /dev/urandom >"$context/sent/sent-$number"; done
  cat >"$context/Dockerfile" <<'END'
FROM docker.io/library/busybox:latest
COPY sent /built
RUN for n in $(seq 20); do head -c 100000 /dev/urandom >/built/made-$n; done
RUN cd /built && sha256sum * >sums
RUN : >/built/last
END
  tar -C "$context" -cf "$1" .
  rm -rf "$context"
}

# random_ms BELOW
random_ms() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }

# cut NUMBER ACTION: boots, waits until the guest is at it, and ends the machine at some moment of that.
cut() {
  local name=cuts-$1 longest moment started=$SECONDS
  boot_for "$name" "$2" "$1"
  until says_or_ended "$name" acting "$machine_pid"; do
    [ $((SECONDS - started)) -lt 1200 ] || kill -9 "$machine_pid" || true
    sleep 0.02
  done
  if ! has_ended "$machine_pid"; then
    # As long as the same took the guest when nothing came in between.
    longest=$(results "$name" | sed -n 's/^acting //p')
    moment=$(random_ms "${longest:-1000}")
    sleep "$((moment / 1000)).$(printf '%03d' $((moment % 1000)))"
    kill -9 "$machine_pid" || true
  fi
  wait "$machine_pid" 2>/dev/null || true
  results "$name" | grep -E '^(ok|not ok|skip) ' >>"$guest/results" || true
  says "$name" acting || verdict "not ok cuts: boot $1 did not get to its $2 (see target/guest/$name.console)"
  keep "$data_overlay"
  keep "$control_overlay"
  check_control "$1"
  say "cut $1: ${moment:-?} ms into a $2 of ${longest:-?} ms, after $((SECONDS - started)) s"
}

# The block written with a flush is there, the later one without is not.
check_control() {
  local flushed unflushed
  flushed=$(dd if="$control_disk" bs=1 skip=0 count=12 status=none | tr -d '\0')
  unflushed=$(dd if="$control_disk" bs=1 skip=2097152 count=12 status=none | tr -d '\0')
  if [ "$flushed" = "flushed $1" ] && [ "$unflushed" != "written $1" ]; then
    verdict "ok cuts: cut $1 lost what was not flushed"
  else
    verdict "not ok cuts: cut $1 was none: the disk holds '$flushed' and '$unflushed'"
  fi
}

# What goes on when the power goes, in turn.
cut_actions=(pull build create)
cut_action() { echo "${cut_actions[$(($1 % ${#cut_actions[@]}))]}"; }

# cuts COUNT
cuts() {
  local number
  rm -f "$data_disk" "$control_disk"
  mke2fs -q -t ext4 "$data_disk" 1500M
  truncate -s 8M "$control_disk"
  for ((number = 1; number <= $1; number++)); do cut "$number" "$(cut_action "$number")"; done
  boot_for "cuts-$number" none "$number"
  wait "$machine_pid" || true
  results "cuts-$number" | grep -E '^(ok|not ok|skip) ' >>"$guest/results" || true
  says "cuts-$number" done || verdict "not ok cuts: the last boot did not end (see target/guest/cuts-$number.console)"
  summarize_cuts pull image "$1"
  summarize_cuts build build "$1"
  rm -f "$data_disk" "$data_overlay" "$control_disk" "$control_overlay"
}

# summarize_cuts ACTION WHAT COUNT: cuts that all came before or after the moments that matter would show nothing.
summarize_cuts() {
  local number absent=0 whole=0
  for ((number = 1; number <= $3; number++)); do
    [ "$(cut_action "$number")" = "$1" ] || continue
    # The boot after the cut tells what it left.
    ! says "cuts-$((number + 1))" "ok cuts: .* the $2 is absent" || absent=$((absent + 1))
    ! says "cuts-$((number + 1))" "ok cuts: .* the $2 is whole" || whole=$((whole + 1))
  done
  if [ $absent -gt 0 ]; then
    verdict "ok cuts: $absent times what a $1 was to make was absent, $whole times whole, never anything else"
  else
    verdict "not ok cuts: no $1 was interrupted"
  fi
}
