#!/bin/sh
# The first process of the guest. Kernel messages have the first serial line; what is run has the second one.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/busybox
export HOME=/root LANG=C.UTF-8
# By this tests know that the kernel has to have what they need.
export HOPWISE_GUEST=1
/busybox/mkdir -p /proc /sys /dev /tmp /run /var /root /etc
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
# A tmpfs, as on a real machine. Not where something was put, such as a checkout below /tmp.
for folder in /dev/shm /run /var; do
    [ -n "$(ls -A "$folder")" ] || mount -t tmpfs -o mode=1777 tmpfs "$folder"
done
mkdir -p /var/lib /var/log
ln -s /run /var/run
echo guest > /proc/sys/kernel/hostname
ip link set lo up

# As they are: no carriage returns added, nothing echoed, no key with a meaning.
stty -F /dev/ttyS1 raw -echo
sh /jobs < /dev/null > /dev/ttyS1 2>&1
sync
poweroff -f
