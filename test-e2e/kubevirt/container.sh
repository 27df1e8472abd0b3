# A container's root directory, as a runtime makes it: the image read-only beneath, places for mounts on top of it. Then waits.
#   container.sh ROOTFS WORK HOOKS
# WORK is an empty folder. The hook directory is at /var/run/kubevirt-hooks, resolv.conf is the pod's.
set -e
rootfs=$1 work=$2 hooks=$3
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$rootfs,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
cd "$work/root"
mkdir -p var/run/kubevirt-hooks old
mount --bind "$hooks" var/run/kubevirt-hooks
cp /etc/resolv.conf etc/resolv.conf
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero random urandom; do
  : >"dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
cp /bin/busybox dev/busybox
mount -o remount,bind,ro . || mount -o remount,ro .
pivot_root . old
exec /dev/busybox sh -c '
  cd /
  /dev/busybox umount -l /old
  # The waiting program is no part of the image: its name goes once it runs.
  /dev/busybox rm -f /dev/sh
  echo ready
  exec /dev/busybox sleep 100000'
