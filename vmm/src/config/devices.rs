//! Checks each device of a config, and opens what it names.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use devices::virtio::blk::Backend;
use protocol::sandbox::{BlkConfig, ConsoleConfig, DeviceConfig, VsockConfig};
use rustix::fs::OFlags;

use super::check::{Stdio, output};
use super::open::{check_path, disk, null, value};
use super::spec::{BlkSpec, ConsoleSpec, VsockSpec};
use super::{ConfigError, DeviceSpec, Output, SocketFile, fs, net};
use crate::shares::{self, Source};

/// Slots of bus 0, less the host bridge's.
const MAX_DEVICES: usize = 31;
/// Bytes of a disk's serial number (virtio 1.2, 5.2.6).
const MAX_SERIAL: usize = 20;
/// Context ids below mean the hypervisor, the machine itself and the host (virtio 1.2, 5.10.4); the highest means "any".
const CIDS: std::ops::Range<u32> = 3..u32::MAX;

/// Turns `configs` into checked devices.
pub(super) fn check(
    configs: &[DeviceConfig],
    stdio: &mut Stdio,
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
                DeviceConfig::Console(config) => {
                    console(&key, config, stdio).map(DeviceSpec::Console)
                }
                DeviceConfig::Blk(config) => blk(&key, config).map(DeviceSpec::Blk),
                DeviceConfig::Net(config) => net::net(&key, config).map(DeviceSpec::Net),
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

fn console(
    key: &str,
    config: &ConsoleConfig,
    stdio: &mut Stdio,
) -> Result<ConsoleSpec, ConfigError> {
    let key = format!("{key}.output");
    let failed = |source: io::Error| ConfigError::Open {
        key: key.clone(),
        path: "standard input and output".into(),
        source,
    };
    Ok(match output(&key, &config.output, stdio)? {
        Output::Stdio => ConsoleSpec {
            output: io::stdout().as_fd().try_clone_to_owned().map_err(failed)?,
            input: Some(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?),
        },
        Output::File(file) => ConsoleSpec {
            output: file.into(),
            input: None,
        },
        Output::None => ConsoleSpec {
            output: null(&key)?,
            input: None,
        },
    })
}

fn blk(key: &str, config: &BlkConfig) -> Result<BlkSpec, ConfigError> {
    if config.serial.len() > MAX_SERIAL || config.serial.contains('\0') {
        let problem = format!(
            "{:?} is not at most {MAX_SERIAL} bytes without NUL",
            config.serial
        );
        return Err(value(&format!("{key}.serial"), problem));
    }
    let key = format!("{key}.path");
    let mut flags = match config.read_only {
        true => OFlags::RDONLY,
        false => OFlags::RDWR,
    };
    flags.set(OFlags::DIRECT, config.direct);
    let file = disk(&key, &config.path, flags)?;
    let backend = Backend::new(file, config.read_only, config.direct).map_err(|source| {
        ConfigError::Disk {
            key,
            path: config.path.clone(),
            source,
        }
    })?;
    Ok(BlkSpec {
        backend,
        serial: config.serial.clone(),
    })
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
    let socket = SocketFile::new(config.socket.clone());
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(VsockSpec {
        cid: config.cid,
        listener,
        directory,
        socket,
        connect_base: Path::new(shares::VSOCK).join(name),
    })
}

fn source(key: &str, path: &Path) -> Result<Source, ConfigError> {
    Source::open(path).map_err(|source| ConfigError::Share {
        key: key.to_owned(),
        source,
    })
}
