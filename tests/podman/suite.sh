# suite.sh DIR RUNTIME FILTER FILE...: Podman's system tests in DIR with a runtime, as TAP. The image that they expect from a registry is
# made of busybox here, under the same name: there is no network.
set -e
here=$(dirname "$(readlink -f "$0")") dir=$1 runtime=$2 filter=$3
shift 3
# Podman's warnings on the test's own stderr would come between the words of libtest, which are counted.
exec 2>&1
image=quay.io/libpod/testimage:20220615
root=/var/tmp/podman-suite/root

make_root() {
    mkdir -p $root && cd $root
    mkdir -p bin sbin etc/network tmp root proc sys dev var/log var/tmp home/podman usr/bin usr/sbin run lib mnt media opt srv
    cp /bin/busybox bin/busybox
    chroot . /bin/busybox --install -s
    cat >etc/passwd <<END
root:x:0:0:root:/root:/bin/ash
bin:x:1:1:bin:/bin:/sbin/nologin
daemon:x:2:2:daemon:/sbin:/sbin/nologin
mail:x:8:12:mail:/var/mail:/sbin/nologin
guest:x:405:100:guest:/dev/null:/sbin/nologin
nobody:x:65534:65534:nobody:/:/sbin/nologin
END
    printf 'root:x:0:root\nbin:x:1:root,bin,daemon\ndaemon:x:2:root,bin,daemon\ntty:x:5:\nmail:x:12:mail\nusers:x:100:\nnobody:x:65534:\n' >etc/group
    printf 'root:*::0:::::\nnobody:!::0:::::\n' >etc/shadow
    printf 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.16.0\n' >etc/os-release
    echo 3.16.0 >etc/alpine-release
    ln -s /proc/mounts etc/mtab
    # Debian's busybox has no printenv.
    printf '#!/bin/sh\n[ $# = 0 ] && exec env\neval "echo \\"\\$$1\\""\n' >usr/bin/printenv
    echo 20220615 >home/podman/testimage-id
    touch --date=@1600000000 home/podman/testimage-id
    printf '#!/bin/sh\n#\n# Trivial little pause script, used in one of the pod tests\n#\necho Confirmed: testimage pause invoked as $0\nwhile :; do\n    sleep 0.1\ndone\n' >home/podman/pause
    chmod 755 usr/bin/printenv home/podman/pause
    chmod 1777 tmp var/tmp
    tar -cf ../root.tar .
}

mkdir -p /etc/containers /var/tmp/podman-suite/tmp
cat >/etc/containers/containers.conf <<END
[containers]
log_driver = "k8s-file"
[engine]
runtime = "$runtime"
cgroup_manager = "cgroupfs"
events_logger = "file"
network_backend = "netavark"
[engine.runtimes]
husk = ["/usr/local/bin/husk"]
END
[ -e $root.tar ] || make_root
podman image exists $image || podman import -q --change WORKDIR=/home/podman \
    --change 'CMD ["/bin/echo","This container is intended for podman CI testing"]' \
    --change 'LABEL created_by=test' --change 'LABEL created_at=2022' $root.tar $image
cd "$dir"
export TMPDIR=/var/tmp/podman-suite/tmp PODMAN_TIMEOUT=400 PODMAN=$here/podman
for file in "$@"; do
    bats --tap ${filter:+--filter "$filter"} "$file"-*.bats || :
done
