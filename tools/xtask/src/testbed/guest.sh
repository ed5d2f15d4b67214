# Sent to L1 on every run, below a head that sets: shares (tag, path pairs), prefix (a tag or nothing), workdir, command, token,
# counting (yes or nothing).
# Sourced by init.sh, which leaves the control port on descriptor 3 and the names of the ports in the array port.
echo ready >&3

mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t securityfs security /sys/kernel/security
mount -t cgroup2 cgroup /sys/fs/cgroup
echo '+cpu +memory +io +pids +cpuset' >/sys/fs/cgroup/cgroup.subtree_control
ln -sfn /proc/self/fd /dev/fd
ln -sfn fd/0 /dev/stdin
ln -sfn fd/1 /dev/stdout
ln -sfn fd/2 /dev/stderr
hostname testbed
ip link set lo up
modprobe -a kvm-amd vfio-pci overlay tun virtiofs loop fuse

die() { # what the host reports instead of an exit status
    echo "failed $*" >&3
    sleep infinity
}
for ((i = 0; i < ${#shares[@]}; i += 2)); do
    mkdir -p "${shares[i + 1]}" && mount -t virtiofs "${shares[i]}" "${shares[i + 1]}" || die "cannot mount ${shares[i + 1]}"
done
# Copied, not mounted: reading through virtio-fs waits for the host, which instruction counting would count, and a build on the
# host would change the files under what runs here.
if [ -n "$prefix" ]; then
    mkdir -p /run/testbed/prefix /usr/local/share
    mount -t virtiofs -o ro "$prefix" /run/testbed/prefix &&
        cp -r --preserve=mode /run/testbed/prefix/* /usr/local/ &&
        umount /run/testbed/prefix || die "cannot copy the install prefix"
fi

# Not where instructions are counted: both would be, and an idle processor's clock leaps from one heartbeat to the next.
if [ -z "$counting" ]; then
    # The host takes an L1 that says nothing for one that hangs. No sleep: a test would see one come and go.
    mkfifo /run/testbed/{never,held}
    (exec 4<>/run/testbed/never && until read -r -t 5 -u 4; do echo alive >&3; done) &
    # A machine that never runs. KVM rewrites its own code and the scheduler's when the first machine comes, when the last one goes,
    # and around each processor whose APIC is off; QEMU before 8.1 may then run what was there before. See docs/testbed.md.
    (exec 3>&- && perl -e '
        use constant { CREATE_VM => 0xae01, CREATE_IRQCHIP => 0xae60, CREATE_VCPU => 0xae41 };
        open(my $kvm, "+<", "/dev/kvm") or die "/dev/kvm: $!";
        my $number = ioctl($kvm, CREATE_VM, 0) or die "KVM_CREATE_VM: $!";
        open(my $vm, "+<&=", $number) or die "its descriptor: $!";
        defined ioctl($vm, CREATE_IRQCHIP, 0) && ioctl($vm, CREATE_VCPU, 0) or die "a processor: $!";
        open(my $held, ">", "/run/testbed/held") or die "held: $!";
        print $held "held\n";
        close $held;
        sleep;
    ' || echo "no machine of KVM" >/run/testbed/held) >/dev/console 2>&1 </dev/null &
    read -r held </run/testbed/held
    [ "$held" = held ] || die "$held"
fi

# A port can be opened once and is no pipe: programs that reopen /dev/stderr would fail. So pipes, and a relay for each.
mkfifo /run/testbed/{stdin,stdout,stderr}
relay() {
    exec 3>&- >"${port[$1]}"
    cat "/run/testbed/$1"
    printf %s "$token"
}
relay stdout &
relays=$!
relay stderr &
relays+=" $!"
(exec 3>&- && exec cat "${port[stdin]}" >/run/testbed/stdin) &

(exec 3>&- && cd "$workdir" && exec "${command[@]}") </run/testbed/stdin >/run/testbed/stdout 2>/run/testbed/stderr
status=$?

# What CMD left running would keep its output open: it ends here, as it would on any machine that is switched off.
for statm in /proc/[0-9]*/statm; do
    pid=${statm%/statm} pid=${pid##*/}
    read -r size _ <"$statm" || continue
    [ "$size" = 0 ] || [ "$pid" = 1 ] && continue
    read -r _ _ _ parent _ <"/proc/$pid/stat"
    [[ " $relays " == *" $pid "* || " $relays " == *" $parent "* ]] || kill -KILL "$pid"
done 2>/dev/null
(sleep 30 && die "CMD left processes that cannot be killed: exit status $status, output incomplete") &
wait $relays
for ((i = 0; i < ${#shares[@]}; i += 2)); do sync -f "${shares[i + 1]}"; done
echo "exit $status" >&3
sleep infinity
