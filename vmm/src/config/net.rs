//! Checks a network interface, and attaches to its tap.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread::{self, Builder};

use devices::virtio::net::{Identity, MAX_NAME, MAX_QUEUE_PAIRS, Tap, TapError, mtu};
use protocol::sandbox::NetConfig;
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::ConfigError;
use super::check::out_of_range;
use super::open::{check_path, value};

/// The least that IPv4 wants, and the most that a tap has.
const MTU: RangeInclusive<u16> = 68..=65_521;
/// One is what every driver has.
const QUEUE_PAIRS: RangeInclusive<u16> = 1..=MAX_QUEUE_PAIRS;

/// A network interface whose tap is open.
pub(crate) struct NetSpec {
    /// What the guest is told.
    pub(crate) identity: Identity,
    /// Its tap, one for each pair of queues.
    pub(crate) taps: Vec<Tap>,
}

/// Checks `config`, which stands under `key`.
pub(super) fn net(key: &str, config: &NetConfig) -> Result<NetSpec, ConfigError> {
    check_name(&format!("{key}.tap"), &config.tap)?;
    let mac = config
        .mac
        .as_deref()
        .map(|mac| address(&format!("{key}.mac"), mac));
    let mac = mac.transpose()?;
    if let Some(mtu) = config.mtu.filter(|mtu| !MTU.contains(mtu)) {
        return Err(out_of_range(&format!("{key}.mtu"), mtu, &MTU));
    }
    if !QUEUE_PAIRS.contains(&config.queue_pairs) {
        let key = format!("{key}.queue_pairs");
        return Err(out_of_range(&key, config.queue_pairs, &QUEUE_PAIRS));
    }
    let netns = config.netns.as_deref();
    let netns = netns.map(|path| namespace(&format!("{key}.netns"), path));
    let netns = netns.transpose()?;
    let (taps, mtu) = attach(key, config, netns)?;
    let identity = Identity { mac, mtu };
    Ok(NetSpec { identity, taps })
}

/// As the kernel checks names, so that no other interface is meant than the one named.
fn check_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let bad =
        |character: char| matches!(character, '/' | ':' | '%' | '\0') || character.is_whitespace();
    let sound =
        (1..=MAX_NAME).contains(&name.len()) && name != "." && name != ".." && !name.contains(bad);
    match sound {
        true => Ok(()),
        false => Err(value(
            key,
            format!("{name:?} is not an interface's name of 1 to {MAX_NAME} bytes"),
        )),
    }
}

/// The address of one interface: six bytes, no group, not all 0.
fn address(key: &str, text: &str) -> Result<[u8; 6], ConfigError> {
    let byte = |part: &str| match part.len() {
        2 if !part.starts_with('+') => u8::from_str_radix(part, 16).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
    let address: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let one = |address: &[u8; 6]| address[0] & 1 == 0 && *address != [0; 6];
    address
        .filter(one)
        .ok_or_else(|| value(key, format!("{text:?} is not the address of one interface")))
}

/// Opens a namespace. Unlike other paths it may end in a link: those of procfs are what runtimes pass on.
fn namespace(key: &str, path: &Path) -> Result<File, ConfigError> {
    check_path(key, path)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty());
    file.map(File::from).map_err(|error| ConfigError::Open {
        key: key.to_owned(),
        path: path.to_owned(),
        source: error.into(),
    })
}

/// Attaches to the tap, and learns its MTU unless the config has one.
fn attach(
    key: &str,
    config: &NetConfig,
    netns: Option<File>,
) -> Result<(Vec<Tap>, u16), ConfigError> {
    let here = || {
        let taps = Tap::attach(&config.tap, config.queue_pairs)?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => mtu(&config.tap).map_err(|error| TapError::SetUp("ask for the MTU", error))?,
        };
        Ok((taps, mtu))
    };
    let outcome = match netns {
        Some(netns) => inside(&netns, here),
        None => here(),
    };
    outcome.map_err(|source| ConfigError::Tap {
        key: format!("{key}.tap"),
        source,
    })
}

/// Does `work` in a network namespace, on a thread of its own: one that has entered a namespace is of no other use.
fn inside<T: Send>(
    netns: &File,
    work: impl FnOnce() -> Result<T, TapError> + Send,
) -> Result<T, TapError> {
    let enter = || {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| TapError::SetUp("enter the network namespace", error.into()))?;
        work()
    };
    thread::scope(|scope| {
        let started = Builder::new()
            .name("tap".to_owned())
            .spawn_scoped(scope, enter);
        let started = started.map_err(|error| TapError::SetUp("start a thread", error))?;
        started.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> String {
        let config = serde_json::from_str(json).unwrap();
        let error = net("devices[0]", &config).err().unwrap();
        crate::error::chain(&error)
    }

    #[test]
    fn a_bad_value_is_named() {
        for (json, expected) in [
            (
                r#"{"tap": ""}"#,
                r#"devices[0].tap: "" is not an interface"#,
            ),
            (r#"{"tap": "0123456789abcdef"}"#, "devices[0].tap: "),
            (r#"{"tap": "a/b"}"#, "devices[0].tap: "),
            (r#"{"tap": ".."}"#, "devices[0].tap: "),
            (r#"{"tap": "tap%d"}"#, "devices[0].tap: "),
            (r#"{"tap": "a b"}"#, "devices[0].tap: "),
            (r#"{"tap": "a\u0000"}"#, "devices[0].tap: "),
            (
                r#"{"tap": "t", "mac": "02:00:00:00:00"}"#,
                "devices[0].mac: ",
            ),
            (
                r#"{"tap": "t", "mac": "02:00:00:00:00:0g"}"#,
                "devices[0].mac: ",
            ),
            (
                r#"{"tap": "t", "mac": "02:00:00:00:00:+1"}"#,
                "devices[0].mac: ",
            ),
            (
                r#"{"tap": "t", "mac": "03:00:00:00:00:01"}"#,
                "devices[0].mac: ",
            ),
            (
                r#"{"tap": "t", "mac": "00:00:00:00:00:00"}"#,
                "devices[0].mac: ",
            ),
        ] {
            let problem = problem(json);
            assert!(problem.starts_with(expected), "{json}: {problem}");
        }
    }

    #[test]
    fn bad_numbers_and_what_is_not_there_are_named() {
        for (json, expected) in [
            (
                r#"{"tap": "t", "mtu": 67}"#,
                "devices[0].mtu: 67 is not in 68..=65521",
            ),
            (r#"{"tap": "t", "mtu": 65522}"#, "devices[0].mtu: "),
            (
                r#"{"tap": "t", "queue_pairs": 0}"#,
                "devices[0].queue_pairs: 0 is not in 1..=8",
            ),
            (
                r#"{"tap": "t", "queue_pairs": 9}"#,
                "devices[0].queue_pairs: ",
            ),
            (r#"{"tap": "t", "netns": "ns"}"#, "devices[0].netns: "),
            (
                r#"{"tap": "t", "netns": "/none"}"#,
                "devices[0].netns: cannot open \"/none\"",
            ),
            (
                r#"{"tap": "t", "netns": "/"}"#,
                "devices[0].tap: cannot enter the network namespace",
            ),
            (
                r#"{"tap": "no-such-tap"}"#,
                "devices[0].tap: there is no interface no-such-tap",
            ),
        ] {
            let problem = problem(json);
            assert!(problem.starts_with(expected), "{json}: {problem}");
        }
    }

    #[test]
    fn an_address_is_read_as_it_is_written() {
        assert_eq!(
            address("", "02:00:5e:10:ff:0A").unwrap(),
            [2, 0, 0x5e, 0x10, 0xff, 10]
        );
    }
}
