//! `cpu.shares`, as the file of cgroup v2 that has their place: by runc's formula, so that the guest's cgroup has runc's value.

use oci_spec::runtime::LinuxResources;

/// The file.
const WEIGHT: &str = "cpu.weight";

/// Shares that can be, of cgroup v1.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// Moves shares to where the guest's cgroup has them. A weight that is named is left.
pub(crate) fn from_shares(resources: &mut LinuxResources) {
    let Some(cpu) = resources.cpu_mut() else {
        return;
    };
    let Some(shares) = cpu.shares().filter(|shares| *shares != 0) else {
        return;
    };
    cpu.set_shares(None);
    let mut unified = resources.unified().clone().unwrap_or_default();
    unified
        .entry(WEIGHT.to_owned())
        .or_insert_with(|| weight(shares).to_string());
    resources.set_unified(Some(unified));
}

/// From 1 to 10,000, in a straight line.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(*SHARES.start(), *SHARES.end());
    1 + (shares - SHARES.start()) * 9999 / (SHARES.end() - SHARES.start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_line_is_runcs() {
        let expected = [(1, 1), (2, 1), (512, 20), (1024, 39), (262_144, 10_000)];
        for (shares, expected) in expected {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        assert_eq!(weight(u64::MAX), 10_000);
    }

    #[test]
    fn shares_become_a_weight_unless_there_is_one() {
        let moved = |resources| {
            let mut resources: LinuxResources = serde_json::from_value(resources).unwrap();
            from_shares(&mut resources);
            serde_json::to_value(resources).unwrap()
        };
        assert_eq!(
            moved(json!({"cpu": {"shares": 512, "quota": 5}})),
            json!({"cpu": {"quota": 5}, "unified": {"cpu.weight": "20"}})
        );
        let both = json!({"cpu": {"shares": 512}, "unified": {"cpu.weight": "7"}});
        assert_eq!(moved(both)["unified"], json!({"cpu.weight": "7"}));
        let unset = json!({"cpu": {"shares": 0}});
        assert_eq!(moved(unset.clone()), unset);
    }
}
