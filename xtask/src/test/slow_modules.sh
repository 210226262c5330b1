# Runs a command while the kernel takes longer to load a module than it has others wait for their turn, which is 5 s.
printf '#!/bin/sh\n/busybox/sleep 5.5\nexec /sbin/modprobe "$@"\n' > /tmp/slow-modprobe
chmod +x /tmp/slow-modprobe
echo /tmp/slow-modprobe > /proc/sys/kernel/modprobe
"$@"
code=$?
echo /sbin/modprobe > /proc/sys/kernel/modprobe
exit $code
