//! Checks a virtio-fs device, and opens the sources of its shares.

use std::collections::BTreeSet;

use devices::virtio::fs::{Cache, MAX_TAG, Options};
use protocol::rpc::LAST_SYNC;
use protocol::sandbox::{CachePolicy, FsConfig, ShareConfig};

use super::ConfigError;
use super::open::{check_path, value};
use crate::shares::{SHARES, Share, ShareName, Source};

/// A checked virtio-fs device.
#[derive(Debug)]
pub(crate) struct FsSpec {
    /// What the guest mounts it by.
    pub(crate) tag: String,
    /// Shares present from the start.
    pub(crate) shares: Vec<Share>,
    /// What the guest may cache.
    pub(crate) cache: Cache,
    /// Whether it may gather writes.
    pub(crate) writeback: bool,
}

impl FsSpec {
    /// What the device is to do.
    pub(crate) fn options(&self) -> Options {
        Options {
            root: SHARES.to_owned(),
            cache: self.cache,
            writeback: self.writeback,
            last_sync: LAST_SYNC,
        }
    }
}

/// Checks `config`, which stands under `key`.
pub(super) fn fs(key: &str, config: &FsConfig) -> Result<FsSpec, ConfigError> {
    if config.tag.is_empty() || config.tag.len() > MAX_TAG || config.tag.contains('\0') {
        let problem = format!("{:?} is not 1 to {MAX_TAG} bytes without NUL", config.tag);
        return Err(value(&format!("{key}.tag"), problem));
    }
    if config.writeback && config.cache == CachePolicy::Never {
        let problem = "gathers writes in a cache that `cache` forbids".to_owned();
        return Err(value(&format!("{key}.writeback"), problem));
    }
    let shares = shares(&format!("{key}.shares"), &config.shares)?;
    Ok(FsSpec {
        tag: config.tag.clone(),
        shares,
        cache: match config.cache {
            CachePolicy::Never => Cache::Never,
            CachePolicy::Auto => Cache::Auto,
            CachePolicy::Always => Cache::Always,
        },
        writeback: config.writeback,
    })
}

/// Checks a list of shares, which stands under `key`, and opens their sources.
pub(crate) fn shares(key: &str, list: &[ShareConfig]) -> Result<Vec<Share>, ConfigError> {
    let mut seen = BTreeSet::new();
    let mut shares = Vec::new();
    for (index, share) in list.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let checked = check_share(&key, share)?;
        if !seen.insert(checked.name.clone()) {
            return Err(value(
                &format!("{key}.name"),
                format!("{} is taken", checked.name),
            ));
        }
        shares.push(checked);
    }
    Ok(shares)
}

fn check_share(key: &str, share: &ShareConfig) -> Result<Share, ConfigError> {
    let failed = |part: &str| {
        let key = format!("{key}.{part}");
        |source| ConfigError::Share { key, source }
    };
    let name = ShareName::new(&share.name).map_err(failed("name"))?;
    check_path(&format!("{key}.source"), &share.source)?;
    let source = Source::open(&share.source).map_err(failed("source"))?;
    Ok(Share {
        name,
        source,
        read_only: share.read_only,
        recursive: share.recursive,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> String {
        let config = serde_json::from_str(json).unwrap();
        let error = fs("devices[0]", &config).unwrap_err();
        crate::error::chain(&error)
    }

    #[test]
    fn a_bad_value_is_named() {
        for (json, key) in [
            (r#"{"tag": ""}"#, "devices[0].tag"),
            (
                r#"{"tag": "0123456789012345678901234567890123456"}"#,
                "devices[0].tag",
            ),
            (r#"{"tag": "a\u0000"}"#, "devices[0].tag"),
            (
                r#"{"tag": "a", "cache": "never", "writeback": true}"#,
                "devices[0].writeback",
            ),
            (
                r#"{"tag": "a", "shares": [{"name": "a/b", "source": "/"}]}"#,
                "devices[0].shares[0].name",
            ),
            (
                r#"{"tag": "a", "shares": [{"name": "a", "source": "srv"}]}"#,
                "devices[0].shares[0].source",
            ),
            (
                r#"{"tag": "a", "shares": [{"name": "a", "source": "/none"}]}"#,
                "devices[0].shares[0].source: cannot open /none",
            ),
            (
                r#"{"tag": "a", "shares": [{"name": "a", "source": "/"}, {"name": "a", "source": "/"}]}"#,
                "devices[0].shares[1].name: a is taken",
            ),
            (
                r#"{"tag": "a", "shares": [{"name": "a", "source": "/proc"}]}"#,
                "devices[0].shares[0].source: /proc is in a file system",
            ),
        ] {
            let problem = problem(json);
            assert!(problem.starts_with(key), "{problem}");
        }
    }
}
