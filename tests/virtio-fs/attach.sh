#!/bin/bash
# Shares that come and go while a guest runs. As root, with usable KVM; environment as for run.sh.
set -eu
vmm=${HUSK_VMM:-/usr/local/bin/husk-vmm} kernel=${KERNEL:-/usr/local/share/husk/vmlinux}
work=$(mktemp -d /var/tmp/husk-attach.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{initrd/bin,late}
echo content > "$work/late/file"; echo one > "$work/single"
cp /bin/busybox "$work/initrd/bin/"
cat > "$work/initrd/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /mnt
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t virtiofs husk /mnt
until_ok() { for i in $(seq 300); do "$@" 2>/dev/null && return 0; usleep 100000; done; return 1; }
gone() { ! [ -e "$1" ]; }
[ -z "$(ls /mnt)" ] && echo "PASS guest: begins with no share"; echo READY
until_ok test -e /mnt/late/file && [ "$(cat /mnt/late/file)" = content ] && echo "PASS guest: the directory came"
echo x > /mnt/late/new 2>/dev/null && echo "FAIL guest: wrote to a read-only share" || echo "PASS guest: cannot write"
mkdir /mnt/own 2>/dev/null && echo "FAIL guest: made a directory beside the shares" || echo "PASS guest: no directory beside the shares"
until_ok test -e /mnt/single && echo more >> /mnt/single && echo "PASS guest: the file came, and is written"; echo SEEN
until_ok gone /mnt/late && echo "PASS guest: the directory went" || echo "FAIL guest: the directory stays"
until_ok gone /mnt/single && echo "PASS guest: the file went" || echo "FAIL guest: the file stays"
poweroff -f
INIT
chmod 755 "$work/initrd/init"
(cd "$work/initrd" && find . | cpio -o -H newc --quiet) > "$work/initrd.img"
cat > "$work/sandbox.json" <<JSON
{"boot": {"kernel": "$kernel", "initrd": "$work/initrd.img", "cmdline": "console=ttyS0 quiet panic=-1"},
 "serial": {"mode": "file", "path": "$work/serial"}, "devices": [{"type": "fs", "tag": "husk"}]}
JSON
mounts() { cut -d' ' -f3- /proc/self/mountinfo | sort; }
says() { for _ in $(seq 300); do grep -q "$1" "$work/serial" 2>/dev/null && return; sleep 0.2; done; echo "FAIL guest never said $1"; }
refused() { if "$vmm" share "$@" 2> "$work/error"; then echo "FAIL accepted: $*"; else echo "PASS refused: $(cat "$work/error")"; fi; }
before=$(mounts)
"$vmm" --config "$work/sandbox.json" < /dev/null &
pid=$!
says READY
"$vmm" share attach --pid $pid --read-only late "$work/late"
"$vmm" share attach --pid $pid single "$work/single"
refused attach --pid $pid late "$work/late"
refused attach --pid $pid a/b "$work/late"
refused attach --pid $pid .. "$work/late"
refused attach --pid $pid none "$work/none"
refused attach --pid $pid proc /proc
refused attach --pid $$ x "$work/late"
[ "$(mounts)" = "$before" ] && echo "PASS the host's mount table is untouched" || echo "FAIL the host's mount table changed"
says SEEN
"$vmm" share detach --pid $pid late
"$vmm" share detach --pid $pid single
refused detach --pid $pid late
wait $pid && echo "PASS husk-vmm exits 0" || echo "FAIL husk-vmm exits $?"
cat "$work/serial"
[ "$(tail -1 "$work/single")" = more ] && echo "PASS the guest's write is in the file" || echo "FAIL the guest's write is lost"
[ "$(mounts)" = "$before" ] && echo "PASS nothing is left mounted" || echo "FAIL mounts are left"
