# Makes the parts of a virtual machine from Debian's packages: kernels, their initramfs, root disk. Sourced by hack/guest.
# shellcheck shell=bash disable=SC2154
#
# Nothing is installed and no loop device is needed: packages are unpacked, and mke2fs copies a tree into a
# new file system. All of it lies in target/guest, and is made again only when what it is made from changed.

guest=$target/guest
machine_root=$guest/root
# A kernel of this release still has all of cgroup v1; one of sid has what user namespaces ask for (Linux 6.15).
kernels=(stable sid)
root_disk=$guest/root.ext4

guest_packages=(
  apparmor bash coreutils curl dbus diffutils e2fsprogs findutils gawk grep init-system-helpers iproute2 jq kmod
  libc-bin mount procps sed systemd systemd-sysv util-linux
)
# Those that the machine's devices, container images and the pods' network need; depmod finds what they need.
kernel_modules=(
  drivers/block/virtio_blk.ko drivers/net/virtio_net.ko drivers/net/veth.ko drivers/net/dummy.ko drivers/virtio
  fs/overlayfs net/802 net/8021q net/bridge net/core/failover.ko net/ipv4/netfilter net/ipv6/netfilter net/llc
  net/netfilter drivers/net/net_failover.ko lib/libcrc32c.ko net/ipv6/ipv6.ko crypto/crc32c_generic.ko
  arch/x86/crypto/crc32c-intel.ko
)

# The newest kernel for virtual machines that the package lists have, and the packages that it is split into.
kernel_packages() {
  local image
  image=$(apt_cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
  echo "$image"
  apt_cache depends "$image" | sed -n "s/.*Depends: \(linux-[a-z]*-${image#linux-image-}\)$/\1/p"
}

apt_cache() { apt-cache ${apt_config:+-c "$apt_config"} "$@"; }

make_machine() {
  local inputs name
  inputs=("$repo/hack/guest-image.sh" "$repo/hack/guest-src/initramfs" "$(kernel_packages)")
  if [ -s "$root_disk" ] && up_to_date "$guest/stamp" "${inputs[@]}"; then return; fi
  say "making the guest's kernels and disks"
  unpack_packages
  for name in "${kernels[@]}"; do
    take_kernel "$name" "$guest/kernel-$name"
    rm -rf "$guest/kernel-$name"
  done
  complete_root
  rm -f "$root_disk"
  mke2fs -q -t ext4 -d "$machine_root" -L root "$root_disk" 1200M
  rm -rf "$machine_root" "$guest/busybox"
  stamp "$guest/stamp" "${inputs[@]}"
}

unpack_packages() {
  extract_debs "$machine_root" "${guest_packages[@]}"
  extract_debs "$guest/busybox" busybox-static
  extract_kernel "$guest/kernel-stable"
  with_sid "$guest/kernel-sid" extract_kernel "$guest/kernel-sid"
  rm -rf "$machine_root"/usr/share/{doc,man,locale,info,bash-completion,zsh,perl} "$machine_root"/usr/lib/udev/hwdb.d
  merge_usr "$machine_root"
}

# extract_kernel DIRECTORY: its packages alone, without what they depend on.
extract_kernel() {
  local packages package
  mapfile -t packages < <(kernel_packages)
  rm -rf "$1"
  mkdir -p "$1"
  cd "$1"
  apt-get ${apt_config:+-c "$apt_config"} -qq -o APT::Sandbox::User=root download "${packages[@]}"
  for package in ./*.deb; do dpkg-deb -x "$package" . && rm "$package"; done
  cd "$repo"
  merge_usr "$1"
}

# Debian's installer makes the links that its packages rely on.
merge_usr() {
  local name
  for name in bin sbin lib lib64; do
    mkdir -p "$1/usr/$name"
    [ ! -d "$1/$name" ] || cp -a "$1/$name/." "$1/usr/$name/"
    rm -rf "${1:?}/$name"
    ln -s "usr/$name" "$1/$name"
  done
}

# take_kernel NAME DIRECTORY: the kernel, its modules into the root, and an initramfs.
take_kernel() {
  local version from to module
  version=$(cd "$2/usr/lib/modules" && echo *)
  from=$2/usr/lib/modules/$version
  to=$machine_root/usr/lib/modules/$version
  # They lie among the modules since Debian 14.
  if [ -e "$from/vmlinuz" ]; then cp "$from/vmlinuz" "$guest/vmlinuz-$1"; else cp "$2/boot/vmlinuz-$version" "$guest/vmlinuz-$1"; fi
  find "$from/kernel" -name '*.ko.xz' -exec "$guest/busybox/bin/busybox" unxz {} +
  mkdir -p "$to"
  for module in "${kernel_modules[@]}"; do
    [ -e "$from/kernel/$module" ] || continue
    mkdir -p "$to/kernel/${module%/*}"
    cp -a "$from/kernel/$module" "$to/kernel/${module%/*}/"
  done
  cp "$from"/modules.{builtin,builtin.modinfo,order} "$to/"
  chroot "$machine_root" depmod "$version"
  make_initramfs "$1" "$to"
}

# make_initramfs NAME MODULES: what stands between the kernel and the root disk, which is the virtio modules, and a shell script
# that mounts the disks.
make_initramfs() {
  local root=$guest/initramfs.d module
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,root,modules}
  cp "$guest/busybox/bin/busybox" "$root/bin/"
  cp "$repo/hack/guest-src/initramfs" "$root/init"
  for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
    find "$2" -name "$module.ko" -exec cp {} "$root/modules/" \;
  done
  (cd "$root" && find . | "$root/bin/busybox" cpio -o -H newc 2>/dev/null) | gzip -1 >"$guest/initramfs-$1"
  rm -rf "$root"
}

# What the packages' scripts and an installer would have written.
complete_root() {
  local name
  mkdir -p "$machine_root"/{dev,proc,sys,run,root,tmp,job,var/lib,var/log,etc/cais,etc/systemd/system,etc/cni,opt,mnt}
  chmod 1777 "$machine_root/tmp"
  ln -sf gawk "$machine_root/usr/bin/awk"
  ln -sf bash "$machine_root/usr/bin/sh"
  # A directory, if some package had a place in it: the link would come to lie inside.
  rm -rf "${machine_root:?}/var/run"
  ln -s /run "$machine_root/var/run"
  printf '%s\n' root:x:0:0:root:/root:/bin/bash messagebus:x:100:100::/nonexistent:/usr/sbin/nologin \
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin >"$machine_root/etc/passwd"
  printf '%s\n' root:x:0: tty:x:5: messagebus:x:100: nogroup:x:65534: >"$machine_root/etc/group"
  printf '%s\n' 'root:100000:65536' 'cais:1000000:6553600' | tee "$machine_root/etc/subuid" >"$machine_root/etc/subgid"
  printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$machine_root/etc/nsswitch.conf"
  echo 'nameserver 10.0.2.3' >"$machine_root/etc/resolv.conf"
  echo '127.0.0.1 localhost guest' >"$machine_root/etc/hosts"
  echo guest >"$machine_root/etc/hostname"
  echo 4c1f0fd6c9b84c0f9a3c3a6f2d0a7e11 >"$machine_root/etc/machine-id"
  # critest calls its own programs through sudo; all in here is root's.
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nexec "$@"\n' >"$machine_root/usr/bin/sudo"
  chmod 755 "$machine_root/usr/bin/sudo"
  cat >"$machine_root/etc/systemd/system/job.service" <<'UNIT'
[Unit]
Description=What hack/guest came for
After=dbus.socket sysinit.target
Wants=dbus.socket
FailureAction=poweroff-force
SuccessAction=poweroff-force

[Service]
Type=exec
ExecStart=/bin/bash /job/run
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
# The job moves processes between groups of its own.
Delegate=yes
UNIT
  cat >"$machine_root/etc/systemd/system/job.target" <<'UNIT'
[Unit]
Description=hack/guest
Requires=sysinit.target job.service
After=sysinit.target
AllowIsolate=yes
UNIT
  for name in systemd-udevd systemd-timesyncd systemd-hwdb-update systemd-journal-flush systemd-logind \
    systemd-update-utmp systemd-firstboot systemd-resolved systemd-networkd systemd-pcrphase systemd-random-seed \
    systemd-udev-trigger dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount; do
    ln -sf /dev/null "$machine_root/etc/systemd/system/${name%.mount}$([[ $name == *.mount ]] && echo .mount || echo .service)"
  done
  rm -f "$machine_root/etc/systemd/system/dev-hugepages.mount"
}
