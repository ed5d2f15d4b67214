#!/bin/bash
# File system checks for directory $1, on the host or in a guest: prints `PASS name` or `FAIL name`, exits with the number of FAILs.
# Both runs of run.sh use it, so that what fails on the host too is not held against virtio-fs.
dir=$1 where=$2 bin=$(dirname "$0")/bin failed=0
mkdir -p "$dir" && cd "$dir" || exit 99
check() { # name, command
    local name=$1; shift
    [ ! -s "$bin/only" ] || grep -qw -- "$name" "$bin/only" || return 0
    local begin=$SECONDS
    if "$@" > "$dir/../$where-$name.log" 2>&1; then echo "PASS $name $((SECONDS - begin))s"
    else echo "FAIL $name ($?)"; tail -5 "$dir/../$where-$name.log"; failed=$((failed + 1)); fi
}
compile() {
    printf '#include <stdio.h>\nint main(void) { puts("compiled"); return 0; }\n' > hello.c
    gcc -O2 -o hello hello.c && [ "$(./hello)" = compiled ]
}
verified() { # fio options
    fio --name=verify --directory="$dir" --size=8M --bs=16k --rw=randwrite --verify=crc32c --verify_fatal=1 \
        --do_verify=1 --minimal "$@" && rm -f "$dir"/verify.*
}
mapped_write() {
    python3 - <<'PY'
import mmap
with open("mapped", "w+b") as f:
    f.truncate(1 << 20)
    m = mmap.mmap(f.fileno(), 0)
    m[:] = bytes(i % 251 for i in range(1 << 20))
    m.flush(); m.close()
assert open("mapped", "rb").read() == bytes(i % 251 for i in range(1 << 20))
PY
}
locks() {
    python3 - <<'PY'
import fcntl, os
f = open("lock", "w+")
fcntl.flock(f, fcntl.LOCK_EX)
fcntl.lockf(f, fcntl.LOCK_EX, 10, 0)
pid = os.fork()
if pid == 0:
    g = open("lock", "r+")
    for take in (lambda: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 2)):
        try: take()
        except BlockingIOError: continue
        os._exit(1)
    fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 20)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
PY
}
special() {
    rm -f fifo sock null; mkfifo fifo && mknod null c 1 3 && python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("sock")'
    (echo through > fifo &) && [ "$(cat fifo)" = through ] && [ -S sock ] && [ "$(stat -c %F null)" = "character special file" ]
}
links() {
    rm -f a b c; echo x > a; ln a b; ln -s a c
    [ "$(stat -c %h a)" = 2 ] && [ "$(stat -c %i a)" = "$(stat -c %i b)" ] && [ "$(readlink c)" = a ] && [ "$(cat c)" = x ]
}
attributes() {
    python3 - <<'PY'
import os
open("attr", "w")
os.setxattr("attr", "user.husk", b"v" * 1000)
assert os.getxattr("attr", "user.husk") == b"v" * 1000
assert "user.husk" in os.listxattr("attr")
os.removexattr("attr", "user.husk")
assert os.listxattr("attr") == [n for n in os.listxattr("attr") if n != "user.husk"]
PY
}
permissions() {
    rm -rf private group; mkdir -m 700 private; mkdir -m 770 group; chgrp 5000 group; chmod 711 .
    python3 - <<'PY'
import os
def as_user(uid, gid, groups, what):
    pid = os.fork()
    if pid == 0:
        os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
        try: what()
        except PermissionError: os._exit(13)
        except Exception as e: print(repr(e), flush=True); os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
make = lambda path: (lambda: open(path, "w").close())
assert as_user(1000, 1000, [], make("private/x")) == 13
assert as_user(1000, 1000, [], make("group/x")) == 13
assert as_user(1000, 5000, [], make("group/primary")) == 0
st = os.stat("group/primary"); assert (st.st_uid, st.st_gid) == (1000, 5000), st
code = as_user(1000, 1000, [5000], make("group/supplementary")); assert code == 0, f"supplementary group: {code}"
PY
}
killed_bits() {
    printf x > suid; chmod 6777 suid
    python3 - <<'PY'
import os
pid = os.fork()
if pid == 0:
    os.setgroups([]); os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
    fd = os.open("suid", os.O_WRONLY); os.write(fd, b"y"); os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert os.stat("suid").st_mode & 0o6000 == 0, oct(os.stat("suid").st_mode)
PY
}
pjdfstest() {
    rm -rf pjd; mkdir pjd
    "$bin/pjdfstest" -c "$bin/pjdfstest.toml" -p "$dir/pjd" | sed -u "s/\x1b\[[0-9;]*m//g" > "$dir/../pjdfstest-$where.log"
    # Which tests fail is compared by run.sh.
    awk '/::/ && NF == 2 { print $1, $2 }' "$dir/../pjdfstest-$where.log" | sort > "$dir/../pjdfstest-$where.txt"
    grep '^Summary' "$dir/../pjdfstest-$where.log"
}
check compile compile
check mapped-write mapped_write
check locks locks
check special-files special
check links links
check attributes attributes
check permissions permissions
check killed-bits killed_bits
check fio-buffered verified --ioengine=psync
check fio-direct verified --ioengine=psync --direct=1
check fio-mmap verified --ioengine=mmap
check pjdfstest pjdfstest
check fsx "$bin/fsx" -q -N "$(cat "$bin/fsx-ops")" -S 42 fsx-file
exit $failed
