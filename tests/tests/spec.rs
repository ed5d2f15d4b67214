//! The OCI runtime specification, seen from inside the container: each feature of `config.json` that Linux has, with runc on the
//! same machine as the reference wherever it knows the feature.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::husk;
use tests::leaks::watched;
use tests::runc::both;

/// Lines of a process's status that isolation is about.
const STATUS: &str = "grep -E 'Cap|NoNew|Seccomp:|Groups|Uid|Gid' /proc/self/status";

/// For applets that the bundle has no link to.
const BUSYBOX: &str = "b() { /bin/busybox \"$@\"; }; ";

/// What the line prints with husk, which is what it prints with runc.
fn same(bundle: Bundle, line: &str) -> Result<String> {
    let bundle = bundle.shell(&format!("{BUSYBOX}{line}"))?;
    let [runc, husk] = both(&bundle)?;
    ensure!(
        runc.stdout == husk.stdout && runc.code() == husk.code(),
        "{line}\nrunc: {runc:?}\nhusk: {husk:?}"
    );
    Ok(husk.stdout)
}

/// Both refuse; husk's words.
fn both_refuse(bundle: Bundle, part: &str) -> Result<()> {
    let bundle = bundle.shell("echo not reached")?;
    let [runc, husk] = both(&bundle)?;
    ensure!(runc.code() == 1 && husk.code() == 1, "{runc:?}\n{husk:?}");
    ensure!(
        husk.stdout.is_empty() && husk.stderr.contains(part),
        "{part}: {husk:?}"
    );
    Ok(())
}

/// What the line prints with husk, where runc has nothing to compare with.
fn own(bundle: Bundle, line: &str) -> Result<String> {
    let husk = husk::run(&bundle.shell(&format!("{BUSYBOX}{line}"))?)?;
    Ok(husk.ok().to_owned())
}

fn add(bundle: Bundle, pointer: &str, entries: &[Value]) -> Result<Bundle> {
    let mut list = bundle
        .get(pointer)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    list.extend_from_slice(entries);
    bundle.set(pointer, json!(list))
}

#[test]
fn a_process_is_who_the_spec_says_and_has_no_more_than_it_grants() -> Result<()> {
    watched(|| {
        let user = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 7], "umask": 0o77});
        let caps = ["CAP_NET_RAW", "CAP_CHOWN"];
        let mut sets = json!({});
        for set in [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ] {
            sets[set] = json!(caps);
        }
        let limits = [("NOFILE", 100, 200), ("CORE", 0, 0), ("NICE", 5, 6), ("MSGQUEUE", 8192, 8192)]
            .map(|(kind, soft, hard)| json!({"type": format!("RLIMIT_{kind}"), "soft": soft, "hard": hard}));
        let bundle = Bundle::busybox()?
            .set("/process/user", user)?
            .set("/process/capabilities", sets)?
            .set("/process/rlimits", json!(limits))?
            .set("/process/oomScoreAdj", json!(321))?;
        let line = format!(
            "b id; umask; {STATUS}; cat /proc/self/oom_score_adj; \
             grep -Ev 'processes|pending' /proc/self/limits"
        );
        let said = same(bundle, &line)?;
        ensure!(
            said.contains("uid=1000") && said.contains("CapAmb:\t0000000000002001"),
            "{said}"
        );
        let mut bundle = Bundle::busybox()?.set("/process/noNewPrivileges", json!(false))?;
        bundle = bundle.set("/process/capabilities", Value::Null)?;
        let said = same(bundle, STATUS)?;
        ensure!(
            said.contains("CapBnd:\t0000000000000000") && said.contains("NoNewPrivs:\t0"),
            "{said}"
        );
        Ok(())
    })
}

#[test]
fn what_this_runc_does_not_know_yet_works_too() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?
            .set("/domainname", json!("example.org"))?
            .set(
                "/process/ioPriority",
                json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
            )?
            .set(
                "/process/scheduler",
                json!({"policy": "SCHED_BATCH", "nice": 7}),
            )?
            .set("/linux/personality", json!({"domain": "LINUX32"}))?
            .set("/linux/sysctl", json!({"vm.max_map_count": "262145"}))?
            .set(
                "/linux/timeOffsets",
                json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}}),
            )?;
        let bundle = add(bundle, "/linux/namespaces", &[json!({"type": "time"})])?;
        let line = "cat /proc/sys/kernel/domainname /proc/sys/vm/max_map_count; uname -m; b ionice -p $$; \
                    b cut -d. -f1 /proc/uptime; b cut -d' ' -f19 /proc/self/stat";
        let said = own(bundle, line)?;
        let lines: Vec<_> = said.lines().collect();
        ensure!(
            lines[..4] == ["example.org", "262145", "i686", "best-effort: prio 6"],
            "{said}"
        );
        ensure!(
            lines[4].parse::<u64>()? >= 1_000_000 && lines[5] == "7",
            "{said}"
        );
        Ok(())
    })
}

#[test]
fn seccomp_decides_as_it_does_with_runc() -> Result<()> {
    watched(|| {
        let rule = |names: &[&str], action: &str| json!({"names": names, "action": format!("SCMP_ACT_{action}")});
        let with = |mut rule: Value, field: &str, value: Value| {
            rule[field] = value;
            rule
        };
        let namespaces = json!([{"index": 0, "value": 0x7e02_0000_u32, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        let linux32 = json!([{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]);
        let profile = |default: &str, rules: Vec<Value>| json!({"defaultAction": format!("SCMP_ACT_{default}"), "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules});
        let rules = vec![
            with(
                rule(&["mkdir", "mkdirat", "no_such_call"], "ERRNO"),
                "errnoRet",
                json!(28),
            ),
            with(rule(&["personality"], "ERRNO"), "args", linux32),
            rule(&["chroot"], "KILL_PROCESS"),
            rule(&["mknod", "mknodat"], "TRAP"),
            rule(&["symlink", "symlinkat"], "TRACE"),
            rule(&["rmdir"], "LOG"),
        ];
        let line = "exec 2>&1; mkdir /tmp/a; b linux32 uname -m; b linux64 uname -m; (b chroot / true); echo $?; \
                    (b mknod /tmp/p p); echo $?; ln -s a /tmp/l; b rmdir /tmp/none";
        for privileges in [true, false] {
            let bundle = Bundle::busybox()?
                .set("/process/noNewPrivileges", json!(privileges))?
                .set("/linux/seccomp", profile("ALLOW", rules.clone()))?;
            let said = same(bundle, line)?;
            ensure!(
                said.contains("No space left on device") && said.contains("159"),
                "{said}"
            );
        }
        // The rule by which engines let programs fork and not make namespaces.
        let forks = vec![
            rule(&["clone3"], "ERRNO"),
            with(rule(&["unshare"], "ERRNO"), "args", namespaces.clone()),
        ];
        let bundle = Bundle::busybox()?.set("/linux/seccomp", profile("ALLOW", forks))?;
        same(bundle, "(echo forked); b unshare -u true; echo $?")?;
        let bad = json!({"defaultAction": "SCMP_ACT_MAYBE"});
        both_refuse(
            Bundle::busybox()?.set("/linux/seccomp", bad)?,
            "linux.seccomp.defaultAction",
        )
    })
}

#[test]
fn paths_are_masked_and_read_only_and_sysctls_are_the_containers_own() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?;
        fs::create_dir_all(bundle.path().join("rootfs/data/sub"))?;
        for name in ["top", "sub/file", "locked"] {
            fs::write(bundle.path().join("rootfs/data").join(name), name)?;
        }
        let bundle = bundle
            .set("/root/readonly", json!(true))?
            .set("/linux/maskedPaths", json!(["/data/top", "/data/sub", "/none"]))?
            .set("/linux/readonlyPaths", json!(["/data/locked", "/proc/sys", "/none"]))?
            .set(
                "/linux/sysctl",
                json!({
                    "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1", "kernel.msgmax": "4096",
                    "fs.mqueue.msg_max": "20", "net.core.somaxconn": "1234", "kernel.domainname": "dom",
                }),
            )?;
        let line = "exec 2>&1; cat /data/top; ls /data/sub; cat /data/locked; touch /x; (echo x >/data/locked); \
                    (echo 1 >/proc/sys/net/core/somaxconn); cd /proc/sys; cat net/ipv4/ip_forward \
                    kernel/shm_rmid_forced kernel/msgmax fs/mqueue/msg_max net/core/somaxconn kernel/domainname";
        same(bundle, line)?;
        for (name, value) in [
            ("net.no.such", "1"),
            ("net.core.somaxconn", "x"),
            ("kernel.hostname", "x"),
        ] {
            let bundle = Bundle::busybox()?.set("/linux/sysctl", json!({name: value}))?;
            both_refuse(bundle, name)?;
        }
        Ok(())
    })
}

#[test]
fn mounts_have_their_options() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?;
        fs::create_dir_all(bundle.path().join("rootfs/data/sub"))?;
        fs::write(bundle.path().join("rootfs/data/sub/file"), "below")?;
        let volume = bundle.path().join("volume");
        fs::create_dir(&volume)?;
        fs::write(volume.join("file"), "volume")?;
        let mount = |kind: &str, to: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
        let mut file = mount("bind", "/etc/new/file", &["bind", "ro"]);
        file["source"] = json!(volume.join("file"));
        let bundle = bundle
            .bind(
                &volume,
                "/vol",
                &["rro", "nosuid", "nodev", "noexec", "noatime", "rshared"],
            )?
            .bind(&volume, "/vol2", &["rslave"])?;
        let mounts = [
            mount(
                "tmpfs",
                "/mnt/a",
                &["nosuid", "noexec", "nodev", "size=1m", "uid=5", "gid=6"],
            ),
            mount("tmpfs", "/mnt/b", &["ro", "sync"]),
            mount("tmpfs", "/mnt/c", &["dirsync"]),
            mount("tmpfs", "/data", &["tmpcopyup", "size=1m"]),
            file,
        ];
        let bundle = add(bundle, "/mounts", &mounts)?;
        let line = "exec 2>&1; b cut -d' ' -f5,6 /proc/self/mountinfo | b grep -E '^/(vol|mnt|data)'; \
                    b grep -oE ' /mnt.*(dir)?sync' /proc/self/mountinfo | b grep -oE '(dir)?sync'; \
                    b df -k /mnt/a | b tail -1; cat /data/sub/file /vol/file /etc/new/file; \
                    touch /vol/x /mnt/b/x /data/y /vol2/z; (echo x >/etc/new/file); ls /data /vol2";
        same(bundle, line)?;
        let nowhere = mount("nosuchfs", "/mnt", &[]);
        both_refuse(
            add(Bundle::busybox()?, "/mounts", &[nowhere])?,
            "mounts[7].type",
        )?;
        let over_proc = mount("tmpfs", "/proc/self", &[]);
        both_refuse(
            add(Bundle::busybox()?, "/mounts", &[over_proc])?,
            "mounts[7].destination",
        )
    })
}

#[test]
fn devices_are_made_and_the_rules_hold() -> Result<()> {
    watched(|| {
        let sets = json!(["CAP_MKNOD", "CAP_SYS_RAWIO", "CAP_DAC_OVERRIDE"]);
        let capabilities = json!({"bounding": sets, "effective": sets, "permitted": sets});
        let fuse = json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4});
        let pipe = json!({"path": "/dev/deep/pipe", "type": "p"});
        let rules = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"},
        ]);
        let bundle = Bundle::busybox()?
            .set("/process/capabilities", capabilities)?
            .set("/linux/devices", json!([fuse, pipe]))?
            .set("/linux/resources/devices", rules)?;
        let line = "exec 2>&1; stat -c '%n %F %a %u %g %t %T' /dev/fuse /dev/deep/pipe /dev/null; \
                    (: </dev/fuse) && echo read; (: >/dev/fuse); rm -f /tmp/m /tmp/z; \
                    b mknod /tmp/m c 1 1; (: </tmp/m); b mknod /tmp/z c 1 5; head -c1 /tmp/z | wc -c";
        let said = same(bundle, line)?;
        ensure!(
            said.contains("read") && said.contains("not permitted"),
            "{said}"
        );
        Ok(())
    })
}

#[test]
fn a_privileged_container_has_the_guests_devices_and_none_of_the_hosts() -> Result<()> {
    watched(|| {
        let all = json!([{"allow": true, "access": "rwm"}]);
        let disk =
            json!({"path": "/dev/vda", "type": "b", "major": 254, "minor": 0, "fileMode": 0o660});
        let kmsg =
            json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o660});
        let bundle = Bundle::busybox()?
            .set("/linux/devices", json!([disk, kmsg]))?
            .set("/linux/resources/devices", all)?
            .set("/linux/maskedPaths", json!([]))?
            .set("/linux/readonlyPaths", json!([]))?;
        let line = "for i in kmsg fuse net/tun vda; do test -e /dev/$i && echo $i; done; echo 77 >/proc/sys/vm/swappiness; \
                    cat /proc/sys/vm/swappiness; find /dev -type b | wc -l";
        let said = own(bundle, line)?;
        ensure!(said == "kmsg\nfuse\nnet/tun\n77\n0", "{said}");
        Ok(())
    })
}

#[test]
fn a_user_namespace_maps_several_ranges() -> Result<()> {
    watched(|| {
        let ranges = json!([
            {"containerID": 0, "hostID": 0, "size": 1},
            {"containerID": 1, "hostID": 100_000, "size": 65_535},
        ]);
        let bundle = Bundle::busybox()?
            .set("/linux/uidMappings", ranges.clone())?
            .set("/linux/gidMappings", ranges)?;
        let bundle = add(bundle, "/linux/namespaces", &[json!({"type": "user"})])?;
        let line = format!(
            "cat /proc/self/uid_map /proc/self/gid_map; stat -c '%n %u' /dev/null /proc/1; {STATUS}"
        );
        same(bundle, &line)?;
        Ok(())
    })
}

#[test]
fn limits_of_the_cgroup_are_the_specs() -> Result<()> {
    watched(|| {
        let resources = json!({
            "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 128 << 20},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
            "pids": {"limit": 33},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
            "unified": {"memory.high": "50000000"},
        });
        let bundle = Bundle::busybox()?.set("/linux/resources", resources)?;
        let line = "cd /sys/fs/cgroup; for i in memory.max memory.low memory.high cpu.max pids.max \
                    hugetlb.2MB.max; do echo $i $(cat $i); done";
        let said = same(bundle, line)?;
        ensure!(
            said.contains("pids.max 33") && said.contains("cpu.max 50000 100000"),
            "{said}"
        );
        let bad = json!({"unified": {"memory.nothing": "5"}});
        both_refuse(
            Bundle::busybox()?.set("/linux/resources", bad)?,
            "memory.nothing",
        )
    })
}
