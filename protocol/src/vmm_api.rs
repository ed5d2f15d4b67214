//! Bodies of the VMM's HTTP API (`husk-vmm --api-socket PATH`), described for others by the OpenAPI file in `docs/`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /vm`: what the machine is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmInfo {
    /// The state.
    pub state: VmState,
    /// Version of husk-vmm.
    pub version: String,
    /// Process id of the VMM, in its own pid namespace's parent.
    pub pid: u32,
}

/// States of a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// Its processors run.
    Running,
    /// They are stopped and can be resumed.
    Paused,
}

/// `PUT /vm/{pause,resume,power-button,kill}` have no body; a failure of any call has this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiError {
    /// One line.
    pub error: String,
}

/// `GET /vm/counters`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counters {
    /// KVM exits that reached user space, by reason.
    pub exits: BTreeMap<String, u64>,
    /// Per device (`slot:name`), by counter.
    pub devices: BTreeMap<String, BTreeMap<String, u64>>,
}
