//! Who may touch what: each of these things has one owner, and a second one would be a second place to keep right.

use anyhow::Result;

use super::Tree;

/// Something, the only places that may name it, and the part of the tree in which the rule holds.
struct Layer {
    word: &'static str,
    only: &'static [&'static str],
    within: &'static [&'static str],
}

const PRODUCT: &[&str] = &[
    "vmm/src",
    "devices/src",
    "agent/src",
    "runtime/src",
    "protocol/src",
    "rootfs-builder/src",
];

const LAYERS: &[Layer] = &[
    Layer {
        word: "epoll::",
        only: &["devices/src/event_loop.rs"],
        within: &["devices/src", "vmm/src"],
    },
    Layer {
        word: "kvm_ioctls",
        only: &["vmm/src/kvm/", "devices/src/vfio/container.rs"],
        within: &["vmm/src", "devices/src"],
    },
    Layer {
        word: "serde_json",
        only: &["vmm/src/config/", "vmm/src/api/"],
        within: &["vmm/src", "devices/src"],
    },
    Layer {
        word: "process::exit(",
        // A container's first process ends in executor.rs if it cannot become the program.
        only: &["main.rs", "agent/src/container/executor.rs"],
        within: PRODUCT,
    },
    Layer {
        word: "tokio::",
        only: &[],
        within: &["vmm/src", "devices/src", "agent/src"],
    },
];

pub(super) fn check(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in tree.rust() {
        for layer in LAYERS {
            let inside = layer.within.iter().any(|dir| file.path.starts_with(dir));
            let path = file.path.to_string_lossy();
            let owner = layer
                .only
                .iter()
                .any(|only| path.starts_with(only) || path.ends_with(&format!("src/{only}")));
            if !inside || owner {
                continue;
            }
            for (number, _) in file.code().filter(|(_, line)| line.contains(layer.word)) {
                found.push(format!(
                    "{path}:{number}: {} belongs to {}",
                    layer.word,
                    layer.only.join(", ")
                ));
            }
        }
    }
    Ok(found)
}
