//! Checks all that a config says against the limits, and opens every path in it. Nothing is opened by name later.

use std::ffi::CString;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;

use protocol::sandbox::{MemoryConfig, SandboxConfig, SerialConfig};
use rustix::fs::OFlags;

use super::open::{regular, value};
use super::{ConfigError, InitrdSpec, Output, VmSpec, devices};
use crate::arch::{self, KernelImage};

/// Processors.
const VCPUS: RangeInclusive<u8> = 1..=32;
/// Memory in MiB.
const MEMORY_MIB: RangeInclusive<u32> = 32..=1 << 20;
/// Most bytes of command line: what x86 kernels take, less the NUL.
const MAX_CMDLINE: usize = 2047;

/// Turns a config into a checked machine.
pub(crate) fn check(config: &SandboxConfig) -> Result<VmSpec, ConfigError> {
    if !VCPUS.contains(&config.vcpus) {
        return Err(out_of_range("vcpus", config.vcpus, &VCPUS));
    }
    let ram = memory(&config.memory)?;
    let low_end = arch::low_memory_end(ram);
    let (kernel, image) = kernel(&config.boot.kernel, low_end)?;
    let initrd = config
        .boot
        .initrd
        .as_deref()
        .map(|path| initrd(path, &image, low_end))
        .transpose()?;
    let mut stdio = Stdio::default();
    let serial = output("serial", &config.serial, &mut stdio)?;
    let cmdline = cmdline(&config.boot.cmdline)?;
    let devices = devices::check(&config.devices, &mut stdio)?;
    Ok(VmSpec {
        vcpus: config.vcpus,
        ram,
        shared_memory: config.memory.shared,
        kernel,
        image,
        initrd,
        cmdline,
        serial,
        devices,
    })
}

pub(super) fn out_of_range<T: std::fmt::Display>(
    key: &str,
    got: T,
    range: &RangeInclusive<T>,
) -> ConfigError {
    let (least, most) = (range.start(), range.end());
    value(key, format!("{got} is not in {least}..={most}"))
}

fn memory(config: &MemoryConfig) -> Result<u64, ConfigError> {
    if MEMORY_MIB.contains(&config.size_mib) {
        Ok(u64::from(config.size_mib) << 20)
    } else {
        Err(out_of_range(
            "memory.size_mib",
            config.size_mib,
            &MEMORY_MIB,
        ))
    }
}

fn kernel(path: &Path, low_end: u64) -> Result<(File, KernelImage), ConfigError> {
    let (file, size) = sized("boot.kernel", path)?;
    let image = KernelImage::parse(&file, size, low_end).map_err(|source| ConfigError::Kernel {
        path: path.to_owned(),
        source,
    })?;
    Ok((file, image))
}

fn initrd(path: &Path, image: &KernelImage, low_end: u64) -> Result<InitrdSpec, ConfigError> {
    let key = "boot.initrd";
    let (file, size) = sized(key, path)?;
    if size == 0 {
        return Err(value(key, format!("{path:?} is empty")));
    }
    let limit = low_end.min(image.initrd_limit);
    let address = arch::initrd_address(size, image.end, limit).ok_or_else(|| {
        value(
            key,
            format!("{path:?} of {size} bytes does not fit into memory beside the kernel"),
        )
    })?;
    Ok(InitrdSpec {
        file,
        size,
        address,
    })
}

fn sized(key: &str, path: &Path) -> Result<(File, u64), ConfigError> {
    let file = regular(key, path, OFlags::RDONLY)?;
    let size = file.metadata().map_err(|source| ConfigError::Open {
        key: key.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    Ok((file, size.len()))
}

fn cmdline(text: &str) -> Result<CString, ConfigError> {
    let key = "boot.cmdline";
    if text.len() > MAX_CMDLINE {
        let problem = format!("is {} bytes long, more than {MAX_CMDLINE}", text.len());
        return Err(value(key, problem));
    }
    CString::new(text).map_err(|_| value(key, "has a NUL character".to_owned()))
}

/// Who uses standard input and output.
#[derive(Default)]
pub(super) struct Stdio {
    taken_by: Option<String>,
}

/// Opens where the bytes of the character device at `key` go.
pub(super) fn output(
    key: &str,
    config: &SerialConfig,
    stdio: &mut Stdio,
) -> Result<Output, ConfigError> {
    match config {
        SerialConfig::None => Ok(Output::None),
        SerialConfig::Stdio => match stdio.taken_by.replace(key.to_owned()) {
            None => Ok(Output::Stdio),
            Some(other) => Err(value(key, format!("{other} uses stdio already"))),
        },
        SerialConfig::File { path } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
            regular(&format!("{key}.path"), path, flags).map(Output::File)
        }
    }
}
