//! Checks each device of a config, and opens what it names.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;

use protocol::sandbox::{DeviceConfig, VsockConfig};

use super::check::Stdio;
use super::open::{check_path, value};
use super::spec::VsockSpec;
use super::{ConfigError, DeviceSpec, fs};
use crate::shares::{self, Source};

/// Slots of bus 0, less the host bridge's.
const MAX_DEVICES: usize = 31;
/// Context ids below mean the hypervisor, the machine itself and the host (virtio 1.2, 5.10.4); the highest means "any".
const CIDS: std::ops::Range<u32> = 3..u32::MAX;

/// Turns `configs` into checked devices.
pub(super) fn check(
    configs: &[DeviceConfig],
    _stdio: &mut Stdio,
) -> Result<Vec<DeviceSpec>, ConfigError> {
    if configs.len() > MAX_DEVICES {
        let problem = format!("are {}, more than {MAX_DEVICES}", configs.len());
        return Err(value("devices", problem));
    }
    let mut once = Once::default();
    configs
        .iter()
        .enumerate()
        .map(|(index, config)| {
            let key = format!("devices[{index}]");
            match config {
                DeviceConfig::Rng {} => Ok(DeviceSpec::Rng),
                DeviceConfig::Vsock(config) => {
                    Once::take(&mut once.vsock, &key, "vsock")?;
                    vsock(&key, config).map(DeviceSpec::Vsock)
                }
                DeviceConfig::Fs(config) => {
                    Once::take(&mut once.fs, &key, "fs")?;
                    fs::fs(&key, config).map(DeviceSpec::Fs)
                }
                DeviceConfig::Console(_) | DeviceConfig::Blk(_) => Err(value(
                    &key,
                    "is of a kind that is not served yet".to_owned(),
                )),
            }
        })
        .collect()
}

/// Kinds of which a machine has at most one: their connections to the host are not told apart.
#[derive(Default)]
struct Once {
    vsock: bool,
    fs: bool,
}

impl Once {
    fn take(taken: &mut bool, key: &str, kind: &str) -> Result<(), ConfigError> {
        match std::mem::replace(taken, true) {
            false => Ok(()),
            true => Err(value(key, format!("is a second {kind} device"))),
        }
    }
}

fn vsock(key: &str, config: &VsockConfig) -> Result<VsockSpec, ConfigError> {
    if !CIDS.contains(&config.cid) {
        let problem = format!("{} is reserved", config.cid);
        return Err(value(&format!("{key}.cid"), problem));
    }
    let key = format!("{key}.socket");
    check_path(&key, &config.socket)?;
    let (Some(directory), Some(name)) = (config.socket.parent(), config.socket.file_name()) else {
        return Err(value(
            &key,
            format!("{:?} is not a file's path", config.socket),
        ));
    };
    let directory = source(&key, directory)?;
    let failed = |source: io::Error| ConfigError::Open {
        key: key.clone(),
        path: config.socket.clone(),
        source,
    };
    let listener = UnixListener::bind(&config.socket).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(VsockSpec {
        cid: config.cid,
        listener,
        directory,
        connect_base: Path::new(shares::VSOCK).join(name),
    })
}

fn source(key: &str, path: &Path) -> Result<Source, ConfigError> {
    Source::open(path).map_err(|source| ConfigError::Share {
        key: key.to_owned(),
        source,
    })
}
