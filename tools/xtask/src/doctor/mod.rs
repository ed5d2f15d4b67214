//! `cargo xtask doctor`: what this machine can do for husk, and what to do about what it cannot.
#![expect(
    clippy::print_stdout,
    reason = "the report is the result of this command"
)]

pub(crate) mod kvm;
mod landlock;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use self::kvm::Kvm;
use crate::{command, packages, testbed};

/// One thing that was looked at.
struct Finding {
    subject: &'static str,
    good: bool,
    state: String,
    advice: &'static str,
}

impl Finding {
    fn new(
        subject: &'static str,
        good: bool,
        state: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self {
            subject,
            good,
            state: state.into(),
            advice,
        }
    }
}

/// Prints what there is; fails only if husk could run neither here nor in the testbed.
pub(crate) fn run() -> Result<i32> {
    let kvm = kvm::probe();
    let here = matches!(kvm, Kvm::Fast(_));
    let missing = testbed::missing_tools();
    let emulated =
        missing.is_empty() || (packages::is_root() && packages::find("apt-get").is_some());
    let findings = [
        kvm_finding(&kvm),
        testbed_finding(&missing, emulated),
        iommu(),
        vhost(),
        user_namespaces(),
        landlock_finding(),
        cgroups(),
        hugepages(),
        tool(
            "cargo-deny",
            "optional: checks licences and advisories; cargo install cargo-deny",
        ),
    ];
    for finding in findings {
        let mark = if finding.good { "ok" } else { "--" };
        println!("{mark}  {:<16} {}", finding.subject, finding.state);
        if !finding.good {
            println!("{:21}{}", "", finding.advice);
        }
    }
    if here || emulated {
        println!(
            "\nhusk runs {}",
            if here {
                "on this machine's KVM"
            } else {
                "in the testbed"
            }
        );
        return Ok(0);
    }
    println!("\nhusk can run neither on KVM nor in the testbed on this machine");
    Ok(1)
}

fn kvm_finding(kvm: &Kvm) -> Finding {
    let advice = match kvm {
        Kvm::Fast(_) => "",
        Kvm::Slow(_) | Kvm::Broken(_) => {
            "this /dev/kvm emulates the guest's kernel mode; use a machine with real KVM, or the testbed"
        }
        Kvm::Missing(_) if cpu_flag("vmx") || cpu_flag("svm") => {
            "the processor can: modprobe kvm_intel or kvm_amd, and give your user the group kvm"
        }
        Kvm::Missing(_) => {
            "switch on virtualization in the firmware (in a VM: nested virtualization), or use the testbed"
        }
    };
    Finding::new("KVM", matches!(kvm, Kvm::Fast(_)), kvm.to_string(), advice)
}

fn cpu_flag(name: &str) -> bool {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|flag| flag == name))
}

fn testbed_finding(missing: &[&str], can: bool) -> Finding {
    let state = if missing.is_empty() {
        "QEMU and what makes its image are there".to_owned()
    } else {
        format!("missing packages: {}", missing.join(" "))
    };
    let advice = if can {
        "cargo xtask testbed installs them when root"
    } else {
        "install them with apt-get as root"
    };
    Finding::new("testbed", missing.is_empty(), state, advice)
}

fn iommu() -> Finding {
    let groups = fs::read_dir("/sys/kernel/iommu_groups").map_or(0, Iterator::count);
    let advice = "passing devices through needs one: boot with intel_iommu=on or amd_iommu=on; the testbed has one";
    Finding::new("IOMMU", groups > 0, format!("{groups} groups"), advice)
}

fn vhost() -> Finding {
    let there: Vec<&str> = ["net", "vsock"]
        .into_iter()
        .filter(|kind| Path::new("/dev").join(format!("vhost-{kind}")).exists())
        .collect();
    let state = if there.is_empty() {
        "none".to_owned()
    } else {
        there.join(", ")
    };
    Finding::new(
        "vhost",
        there.len() == 2,
        state,
        "optional: modprobe vhost_net vhost_vsock; husk's own devices do without",
    )
}

fn user_namespaces() -> Finding {
    let made = command::output(Command::new("unshare").args(["--user", "--map-root-user", "true"]));
    let advice = "sysctl kernel.unprivileged_userns_clone=1 (Debian) or kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)";
    let state = if made.is_ok() {
        "can be made"
    } else {
        "cannot be made"
    };
    Finding::new("user namespaces", made.is_ok(), state, advice)
}

fn landlock_finding() -> Finding {
    let version = landlock::version();
    let state = version.map_or_else(|| "off".to_owned(), |version| format!("ABI {version}"));
    Finding::new(
        "Landlock",
        version.is_some(),
        state,
        "boot with lsm=landlock,... (Linux 5.13 or later)",
    )
}

fn cgroups() -> Finding {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let state = controllers.as_ref().map_or_else(
        |_| "version 1".to_owned(),
        |list| format!("version 2: {}", list.trim()),
    );
    let needed = ["cpu", "memory", "io", "pids"];
    let good = controllers.is_ok_and(|list| {
        needed
            .iter()
            .all(|name| list.split_whitespace().any(|word| word == *name))
    });
    Finding::new(
        "cgroups",
        good,
        state,
        "husk wants version 2 with cpu, memory, io and pids: systemd.unified_cgroup_hierarchy=1",
    )
}

fn hugepages() -> Finding {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let count = read("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    let state = format!(
        "{} of 2 MiB reserved, transparent: {}",
        if count.is_empty() { "0" } else { &count },
        read("/sys/kernel/mm/transparent_hugepage/enabled")
    );
    let good = count.parse::<u64>().is_ok_and(|count| count > 0);
    Finding::new(
        "hugepages",
        good,
        state,
        "optional: sysctl vm.nr_hugepages=N",
    )
}

fn tool(name: &'static str, advice: &'static str) -> Finding {
    let there = packages::find_with_cargo(name);
    Finding::new(
        name,
        there.is_some(),
        if there.is_some() {
            "installed"
        } else {
            "not installed"
        },
        advice,
    )
}
