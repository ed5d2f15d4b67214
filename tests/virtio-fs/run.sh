#!/bin/bash
# Runs checks.sh on the host's own file system and in a guest on a virtio-fs share of it, and compares. As root, with usable KVM:
#   cargo xtask testbed -- tests/virtio-fs/run.sh
# Environment: HUSK_VMM, KERNEL (defaults: the installed ones), TOOLS (directory with fsx 0.3.2 and pjdfstest 0.2.2), FSX_OPS, MEMORY, VCPUS, CACHE,
# WRITEBACK, ONLY (names of checks), KEEP (directory for the logs).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
vmm=${HUSK_VMM:-/usr/local/bin/husk-vmm} kernel=${KERNEL:-/usr/local/share/husk/vmlinux} tools=${TOOLS:?}
work=$(mktemp -d /var/tmp/husk-fs.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # pjdfstest goes through it as other users, too
mkdir -p "$work"/{data/bin,host/bin,initrd/bin}
cp "$here/checks.sh" "$work/data/"; cp "$here/checks.sh" "$work/host/"
for side in data host; do cp "$tools"/fsx "$tools"/pjdfstest "$here/pjdfstest.toml" "$work/$side/bin/"
    echo "${FSX_OPS:-100000}" > "$work/$side/bin/fsx-ops"
    echo "${ONLY:-}" | sed '/^$/d' > "$work/$side/bin/only"
done
cp /bin/busybox "$work/initrd/bin/"; install -m 755 "$here/guest-init" "$work/initrd/init"
(cd "$work/initrd" && find . | cpio -o -H newc --quiet) > "$work/initrd.img"
cat > "$work/sandbox.json" <<JSON
{"vcpus": ${VCPUS:-1}, "memory": {"size_mib": ${MEMORY:-768}},
 "boot": {"kernel": "$kernel", "initrd": "$work/initrd.img", "cmdline": "console=ttyS0 quiet panic=-1 ${CMDLINE:-}"},
 "serial": {"mode": "stdio"},
 "devices": [{"type": "fs", "tag": "husk", "cache": "${CACHE:-auto}", "writeback": ${WRITEBACK:-false}, "shares": [
   {"name": "root", "source": "/", "read_only": true}, {"name": "data", "source": "$work/data"}]}]}
JSON
mounts() { cut -d' ' -f3- /proc/self/mountinfo | sort; }
before=$(mounts)
"$vmm" --config "$work/sandbox.json" < /dev/null &
pid=$!
sleep 3
[ "$(mounts)" = "$before" ] && echo "PASS the host's mount table is untouched" || echo "FAIL the host's mount table changed"
wait $pid && echo "PASS husk-vmm exits 0" || echo "FAIL husk-vmm exits $?"
[ -n "${GUEST_ONLY:-}" ] || bash "$work/host/checks.sh" "$work/host/work" host || true
if [ -z "${GUEST_ONLY:-}" ]; then
    echo "pjdfstest, host (<) against guest (>):"
    diff "$work/host/pjdfstest-host.txt" "$work/data/pjdfstest-guest.txt" && echo "PASS pjdfstest gives the same"
fi
[ "$(mounts)" = "$before" ] && echo "PASS nothing is left mounted" || echo "FAIL mounts are left"
[ -z "${KEEP:-}" ] || cp -r "$work"/data/*.txt "$work"/data/*.log "$work"/host/*.txt "$work"/host/*.log "$KEEP/"
