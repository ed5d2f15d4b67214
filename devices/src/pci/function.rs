//! What a PCI function is to the root.

use super::bar::Bar;
use super::config_space::ConfigSpace;

/// Registers of the configuration space that one access touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// First register.
    pub register: u16,
    /// Bytes: 1, 2 or 4.
    pub len: u16,
}

impl Touched {
    /// Whether the access has a byte in common with `register..register + len`.
    #[must_use]
    pub fn overlaps(self, register: u16, len: u16) -> bool {
        let end = self.register.saturating_add(self.len);
        self.register < register.saturating_add(len) && register < end
    }
}

/// One function. Called from every processor thread, so it locks what it changes.
///
/// The root holds the function's configuration space, and its lock, during the hooks. It holds no lock during accesses to BARs.
pub trait PciFunction: Send + Sync {
    /// Configuration space at power-on, with all capabilities; the root adds the BARs.
    fn config(&self) -> ConfigSpace;
    /// The BARs it has.
    fn bars(&self) -> &[Bar];
    /// The driver is about to read: put registers that change by themselves into `config`.
    fn before_config_read(&self, _config: &mut ConfigSpace, _touched: Touched) {}
    /// The driver has written; `config` has the new state.
    fn after_config_write(&self, _config: &ConfigSpace, _touched: Touched) {}
    /// A processor reads `data.len()` bytes at `offset` of the BAR with index `bar`, wholly inside it.
    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]);
    /// A processor writes `data` at `offset` of the BAR with index `bar`, wholly inside it.
    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]);
    /// The BAR was where `from` says and now answers at `to`; `None`: nowhere.
    fn bar_moved(&self, _bar: u8, _from: Option<u64>, _to: Option<u64>) {}
}
