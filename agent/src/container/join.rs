//! Namespaces that a new container shares with one that runs: named by the host by container, found here by process.

use protocol::rpc::{ErrorCode, Join};
use serde_json::{Value, json};

use super::{Containers, Failure};

impl Containers {
    /// Writes the paths of the namespaces that are to be joined into the spec's entries of their kinds.
    pub(super) fn join(&self, spec: &mut Value, joins: &[Join]) -> Result<(), Failure> {
        for join in joins {
            let path = self.namespace(join)?;
            let entry = entry(spec, join).ok_or_else(|| {
                let message = format!("spec.linux.namespaces has no {}", join.kind.oci_name());
                Failure::new(ErrorCode::Invalid, message)
            })?;
            entry["path"] = json!(path);
        }
        Ok(())
    }

    fn namespace(&self, join: &Join) -> Result<String, Failure> {
        let container = self.get(&join.container)?;
        if container.stopped() {
            let message = format!(
                "container {} has stopped, its {} namespace cannot be joined",
                join.container,
                join.kind.oci_name()
            );
            return Err(Failure::new(ErrorCode::WrongState, message));
        }
        // The process may end before the path is opened; its pid is not given to another so soon.
        let (pid, kind) = (container.init.pid(), join.kind.file_name());
        Ok(format!("/proc/{pid}/ns/{kind}"))
    }
}

fn entry<'a>(spec: &'a mut Value, join: &Join) -> Option<&'a mut Value> {
    let namespaces = spec.pointer_mut("/linux/namespaces")?.as_array_mut()?;
    let of_kind = |entry: &&mut Value| entry["type"] == join.kind.oci_name() && entry.is_object();
    namespaces.iter_mut().find(of_kind)
}

#[cfg(test)]
mod tests {
    use protocol::rpc::NamespaceKind;

    use super::*;

    fn join() -> Join {
        Join {
            kind: NamespaceKind::Network,
            container: "a".to_owned(),
        }
    }

    #[test]
    fn the_entry_of_the_kind_is_found_whatever_the_rest_is() {
        let mut spec = json!({"linux": {"namespaces": [3, {"type": "pid"}, {"type": "network"}]}});
        *entry(&mut spec, &join()).unwrap() = json!("found");
        assert_eq!(spec["linux"]["namespaces"][2], "found");
        for mut spec in [
            json!(null),
            json!({"linux": {"namespaces": {}}}),
            json!({"linux": {"namespaces": ["network", {"type": "net"}]}}),
        ] {
            assert!(entry(&mut spec, &join()).is_none(), "{spec}");
        }
    }

    #[test]
    fn a_container_that_does_not_exist_is_named() {
        let mut spec = json!({"linux": {"namespaces": [{"type": "network"}]}});
        let failure = Containers::default()
            .join(&mut spec, &[join()])
            .unwrap_err();
        assert_eq!(failure.code, ErrorCode::NotFound);
        assert!(failure.message.contains("container a"));
    }
}
