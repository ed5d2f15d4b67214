//! The annotations that husk acts on: a closed list. None of them names a path or an argument of a program on the host.
//!
//! | annotation | meaning |
//! | --- | --- |
//! | `io.kubernetes.cri.container-type` (containerd), `io.kubernetes.cri-o.ContainerType` (CRI-O, Podman) | `container`: belongs to a sandbox |
//! | `io.kubernetes.cri.sandbox-id`, `io.kubernetes.cri-o.SandboxID` | the container that the sandbox was made for |
//! | `io.kubernetes.cri.sandbox-memory` | memory that all containers of the sandbox will have, in bytes |
//! | `io.container.manager` | `libpod`: a sandbox that does not exist is Podman's name for a pod without one |

use std::collections::HashMap;

use crate::state::{ContainerId, IdError};

/// Type and sandbox, by engine.
const MEMBERSHIP: [(&str, &str); 2] = [
    (
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri.sandbox-id",
    ),
    (
        "io.kubernetes.cri-o.ContainerType",
        "io.kubernetes.cri-o.SandboxID",
    ),
];

const SANDBOX_MEMORY: &str = "io.kubernetes.cri.sandbox-memory";

const MANAGER: (&str, &str) = ("io.container.manager", "libpod");

/// Why annotations are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnotationError {
    /// A container of a sandbox that is not named.
    #[error("annotation {key:?} is missing")]
    Missing {
        /// Which.
        key: &'static str,
    },
    /// The sandbox's name is no container id.
    #[error("annotation {key:?} is not usable")]
    Id {
        /// Which.
        key: &'static str,
        /// Why.
        #[source]
        source: IdError,
    },
    /// A number that is none.
    #[error("annotation {key:?} is not a number of bytes: {value:?}")]
    Number {
        /// Which.
        key: &'static str,
        /// What it says.
        value: String,
    },
}

/// Annotations of a bundle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annotations<'a>(Option<&'a HashMap<String, String>>);

/// The sandbox that a container is to be in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Which annotation says so.
    pub(crate) key: &'static str,
    /// The container that the sandbox was made for.
    pub(crate) sandbox: ContainerId,
    /// The container has a machine of its own if there is no such sandbox.
    pub(crate) optional: bool,
}

impl<'a> Annotations<'a> {
    /// Those of a spec.
    pub(crate) fn of(annotations: Option<&'a HashMap<String, String>>) -> Self {
        Self(annotations)
    }

    fn get(self, key: &str) -> Option<&'a str> {
        self.0?.get(key).map(String::as_str)
    }

    /// The sandbox that the container belongs to, unless it is one or knows of none.
    pub(crate) fn membership(self) -> Result<Option<Membership>, AnnotationError> {
        for (kind, key) in MEMBERSHIP {
            if self.get(kind) != Some("container") {
                continue;
            }
            let sandbox = self.get(key).ok_or(AnnotationError::Missing { key })?;
            let sandbox = ContainerId::parse(sandbox)
                .map_err(|source| AnnotationError::Id { key, source })?;
            return Ok(Some(Membership {
                key,
                sandbox,
                optional: self.get(MANAGER.0) == Some(MANAGER.1),
            }));
        }
        Ok(None)
    }

    /// Memory of all containers of the sandbox that this one is made for, in bytes.
    pub(crate) fn sandbox_memory(self) -> Result<Option<u64>, AnnotationError> {
        let number = |value: &str| {
            value.parse().map_err(|_| AnnotationError::Number {
                key: SANDBOX_MEMORY,
                value: value.to_owned(),
            })
        };
        let bytes = self.get(SANDBOX_MEMORY).map(number).transpose()?;
        // Written as 0 where no container has a limit.
        Ok(bytes.filter(|bytes| *bytes > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(list: &[(&str, &str)]) -> HashMap<String, String> {
        let pairs = list
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        pairs.collect()
    }

    #[test]
    fn each_engine_names_the_sandbox_its_own_way() {
        for (kind, key) in MEMBERSHIP {
            let list = annotations(&[(kind, "container"), (key, "pod1")]);
            let membership = Annotations::of(Some(&list)).membership().unwrap().unwrap();
            assert_eq!(membership.sandbox.as_str(), "pod1");
            assert!(!membership.optional);
            let list = annotations(&[(kind, "sandbox"), (key, "pod1")]);
            assert_eq!(Annotations::of(Some(&list)).membership().unwrap(), None);
            let list = annotations(&[(kind, "container")]);
            let error = Annotations::of(Some(&list)).membership().unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
            let list = annotations(&[(kind, "container"), (key, "../x")]);
            let error = Annotations::of(Some(&list)).membership().unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
        assert_eq!(Annotations::of(None).membership().unwrap(), None);
    }

    #[test]
    fn podman_names_sandboxes_that_do_not_exist() {
        let (kind, key) = MEMBERSHIP[1];
        let list = annotations(&[(kind, "container"), (key, "pod"), MANAGER]);
        let membership = Annotations::of(Some(&list)).membership().unwrap();
        assert!(membership.is_some_and(|membership| membership.optional));
    }

    #[test]
    fn the_memory_of_a_sandbox_is_a_number() {
        for (value, expected) in [("0", None), ("1048576", Some(1 << 20))] {
            let list = annotations(&[(SANDBOX_MEMORY, value)]);
            assert_eq!(
                Annotations::of(Some(&list)).sandbox_memory().unwrap(),
                expected
            );
        }
        for value in ["", "-1", "1M", "99999999999999999999"] {
            let list = annotations(&[(SANDBOX_MEMORY, value)]);
            assert!(
                Annotations::of(Some(&list)).sandbox_memory().is_err(),
                "{value}"
            );
        }
    }
}
