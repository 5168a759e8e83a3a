#!/bin/bash
# init.sh: process 1 of the machine that uml_test.go boots. Arguments do not
# reach process 1, so the test puts the folder in here:
dir=@DIR@
exec >"$dir/console" 2>&1 </dev/null
set -eu
trap 'echo "init.sh: failed in line $LINENO"; halt -f' ERR

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root PORTHOLE_TEST_UML=1 PORTHOLE_TEST_MANY=8 PORTHOLE_TEST_DIR=$dir/disk
export PORTHOLE_TEST_SKIPS=$dir/skips PORTHOLE_TEST_STRICT=1 PORTHOLE_TEST_BIN=@BIN@ PORTHOLE_TEST_IMAGES=@IMAGES@
# This kernel has nftables, but none for IPv4.
export PORTHOLE_TEST_DAEMON_ARGS=--ip-masq=false

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir -p "$dir/covered"
mount --bind /tmp "$dir/covered"
mount -t tmpfs tmpfs /tmp
for place in "@SOURCE@" "@BIN@" "@IMAGES@"; do
    if [[ $place == /tmp/* ]]; then
        mkdir -p "$place"
        mount --bind "$dir/covered${place#/tmp}" "$place"
    fi
done
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "$dir/disk"
mount /dev/ubda "$dir/disk"
# This kernel cannot ID-map tmpfs, so files of the tests are on the disk.
mkdir -p "$dir/disk/tmp"
export TMPDIR=$dir/disk/tmp
for module in overlay veth bridge; do
    modprobe -d "$dir" "$module"
done
# A hostname, as every machine has.
echo uml >/proc/sys/kernel/hostname

trap - ERR
set +e
while read -r name binary args; do
    (
        cd "$dir/src/$name" || exit 125
        # shellcheck disable=SC2086 # args are several words
        "$binary" $args
    ) >"$dir/$name.out" 2>&1
    echo $? >"$dir/$name.code"
done <"$dir/plan"
umount -l "$dir/disk"
sync
# It says so. If it fails, the kernel panics for want of a process 1.
halt -f >/dev/null 2>&1
