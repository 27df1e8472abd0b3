# Runs as root of a sandbox of many users, in the network namespace of the machine to be: makes the tree the root directory of
# the mount namespace it has for itself, a system that is running as far as its programs can tell. Prints "ready" and stays.
#
#   machine.sh TREE WORK DIST [FOLDER...]     a tree to leave as it is, an empty folder, what the build made, folders
#                                             that are seen inside at their own paths
set -eu
tree=$1 work=$2 dist=$3
shift 3
root=$work/root
mkdir -p "$root" "$work/upper" "$work/work"
mount --make-rprivate /
mount -t overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" overlay "$root"
mkdir -p "$root/opt/passt" "$root/outside" "$root/home/user"
mount --bind "$dist" "$root/opt/passt"

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
# To be seen only: groups made there would outlive the sandbox.
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -o remount,bind,ro "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
# Devices can only be borrowed in here.
for device in full null random tty urandom zero; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
touch "$root/dev/net/tun"
mount --bind "$tree/dev/net/tun" "$root/dev/net/tun"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for folder in dev/shm tmp; do mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"; done
# Podman puts overlays there, which must not lie on one.
mkdir -p "$root/var/lib/containers"
for folder in run home/user var/lib/containers; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done

for folder; do
  mkdir -p "$root$folder"
  mount --bind "$folder" "$root$folder"
  # All users shall reach it, also below root's home.
  while folder=$(dirname "$folder"); [ "$folder" != / ]; do chmod a+x "$root$folder"; done
done

echo user:x:1000:1000::/home/user:/bin/sh >>"$root/etc/passwd"
echo user:x:1000: >>"$root/etc/group"
echo user:10000:50000 | tee "$root/etc/subuid" >"$root/etc/subgid"
mkdir -p "$root/run/user/1000" "$root/run/netns"
chown 1000:1000 "$root/home/user" "$root/run/user/1000"
cat /etc/resolv.conf >"$root/etc/resolv.conf"
echo 127.0.0.1 localhost >"$root/etc/hosts"

cd "$root"
pivot_root . outside
cd /
umount -l /outside
mount --make-rshared /
echo ready
exec sleep infinity
