#!/bin/bash
# The first process of the testbed's L1. It stays as small as can be, since it is baked into the image: all it does is fetch
# this run's script (L1's own set-up, then the job) from the control port. See guest.sh for the rest.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=755 run /run
modprobe -a virtio_pci virtio_console
declare -A port
for _ in {1..200}; do
    for name in /sys/class/virtio-ports/*/name; do
        [ -e "$name" ] && read -r which <"$name" && device=${name%/name} && port[$which]=/dev/${device##*/}
    done
    [ -c "${port[control]}" ] && break
    sleep 0.05
done
mkdir -p /run/testbed
exec 3<>"${port[control]}"
read -r -u 3 length
head -c "$length" <&3 >/run/testbed/script
. /run/testbed/script
