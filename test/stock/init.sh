#!/bin/bash
# init.sh: process 1 of the machine that stock_test.go boots, after initrd.sh.
dir=@DIR@
exec >"$dir/console" 2>&1 </dev/null
set -eu
trap 'echo "init.sh: failed in line $LINENO"; echo o >/proc/sysrq-trigger; sleep 60' ERR

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root PORTHOLE_TEST_STOCK=1 PORTHOLE_TEST_SLOW=@SLOW@ PORTHOLE_TEST_MANY=8 PORTHOLE_TEST_DIR=$dir/disk
export PORTHOLE_TEST_SKIPS=$dir/skips PORTHOLE_TEST_STRICT=1 PORTHOLE_TEST_BIN=@BIN@ PORTHOLE_TEST_IMAGES=@IMAGES@

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mkdir -p "$dir/disk"
mount /dev/vda "$dir/disk"
# The host's files are read through a protocol: those that tests make are on the disk.
mkdir -p "$dir/disk/tmp"
export TMPDIR=$dir/disk/tmp
mkdir -p /lib/modules
mount --bind @KERNEL@/lib/modules /lib/modules
# As the package would be installed.
tar -C @KERNEL@/apparmor -c etc sbin usr/sbin usr/share/apparmor-features | tar -C / --keep-directory-symlink -x
echo stock >/proc/sys/kernel/hostname
ip link set lo up
# As systemd sets it for services.
ulimit -Hn 524288

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
dmesg >"$dir/dmesg"
umount -l "$dir/disk"
sync
echo o >/proc/sysrq-trigger
sleep 60
