#!/bin/busybox sh
# shellcheck shell=dash
# initrd.sh: the first process of the machine, until it has the host's files and
# goes on with the init of the folder that the kernel's command line names.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
    $bb insmod "$module"
done
dir=$($bb sed 's/.*porthole\.dir=\([^ ]*\).*/\1/' /proc/cmdline)
options=trans=virtio,version=9p2000.L,msize=512000
# Nobody writes to the host's files, so that they can be kept in memory.
$bb mount -t 9p -o ro,$options,cache=loose host /host
$bb mount -t tmpfs tmpfs /above
$bb mkdir /above/upper /above/work
$bb mount -t overlay -o lowerdir=/host,upperdir=/above/upper,workdir=/above/work overlay /new
$bb mount -t 9p -o rw,$options,cache=none folder "/new$dir"
$bb umount /proc /sys
$bb mount --move /dev /new/dev
exec $bb switch_root /new "$dir/init"
