//! Entries of a function's capability list (PCI 3.0, 6.7).

/// Capability id of vendor-specific entries.
pub const VENDOR_SPECIFIC: u8 = 0x09;
/// Capability id of MSI-X.
pub const MSIX: u8 = 0x11;

/// Why a capability could not be added.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CapabilityError {
    /// The configuration space is full.
    #[error("no room for capability {id:#04x} in configuration space")]
    NoRoom {
        /// Its id.
        id: u8,
    },
}

/// One capability: what follows its id and its link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Kind of capability.
    pub id: u8,
    /// Bytes from offset 2.
    pub body: Vec<u8>,
    /// Bits of `body` that the driver may write; what is missing is read-only.
    pub writable: Vec<u8>,
}

impl Capability {
    /// A capability the driver only reads.
    #[must_use]
    pub fn new(id: u8, body: Vec<u8>) -> Self {
        Self {
            id,
            body,
            writable: Vec::new(),
        }
    }

    /// Length with id and link.
    pub(super) fn len(&self) -> usize {
        self.body.len().saturating_add(2)
    }
}
