//! Pages whose guest-physical address is known, which devices can be pointed at.

#![expect(
    unsafe_code,
    reason = "memory that devices change behind the compiler's back"
)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mlock, mmap_anonymous, munmap};

/// Size of a page in bytes.
pub(crate) const PAGE: usize = 4096;

/// One locked page.
pub(crate) struct Page {
    base: NonNull<u8>,
    physical: u64,
}

impl Page {
    /// A page of zeros.
    pub(crate) fn new() -> Result<Self, String> {
        let say = |error: rustix::io::Errno| format!("page: {error}");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping, at an address of the kernel's choice.
        let base =
            unsafe { mmap_anonymous(std::ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE) };
        let base = base.map_err(say)?;
        // SAFETY: the range was mapped just now.
        unsafe { mlock(base, PAGE) }.map_err(say)?;
        let base = NonNull::new(base.cast::<u8>()).ok_or("page: null")?;
        let mut page = Self { base, physical: 0 };
        // It must be there before it has a physical address.
        page.write(0, &[0]);
        page.physical = physical_address(base.as_ptr() as u64)?;
        Ok(page)
    }

    /// Guest-physical address.
    pub(crate) fn physical(&self) -> u64 {
        self.physical
    }

    /// Writes bytes at an offset.
    pub(crate) fn write(&self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= PAGE, "write past the page");
        for (index, byte) in data.iter().enumerate() {
            // SAFETY: within the page, by the assertion.
            let at = unsafe { self.base.as_ptr().add(offset + index) };
            // SAFETY: the page is mapped writable; volatile, since the device reads it.
            unsafe { at.write_volatile(*byte) };
        }
    }

    /// Reads bytes at an offset.
    pub(crate) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= PAGE, "read past the page");
        let byte = |index: usize| {
            // SAFETY: within the page, by the assertion.
            let at = unsafe { self.base.as_ptr().add(offset + index) };
            // SAFETY: the page is mapped readable; volatile, since the device writes it.
            unsafe { at.read_volatile() }
        };
        (0..len).map(byte).collect()
    }

    /// Writes a 16-bit ring index, after everything written before.
    pub(crate) fn publish(&self, offset: usize, value: u16) {
        assert!(offset.is_multiple_of(2) && offset < PAGE, "unaligned index");
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        // SAFETY: aligned and within the page, by the assertion.
        let at = unsafe { self.base.as_ptr().add(offset) }.cast::<u16>();
        // SAFETY: as above; volatile, since the device reads it.
        unsafe { at.write_volatile(value.to_le()) };
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// Reads a 16-bit ring index.
    pub(crate) fn observe(&self, offset: usize) -> u16 {
        assert!(offset.is_multiple_of(2) && offset < PAGE, "unaligned index");
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        // SAFETY: aligned and within the page, by the assertion.
        let at = unsafe { self.base.as_ptr().add(offset) }.cast::<u16>();
        // SAFETY: as above; volatile, since the device writes it.
        u16::from_le(unsafe { at.read_volatile() })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, not used any more; every device that knew it was reset.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), PAGE) };
        assert!(unmapped.is_ok(), "a page cannot be unmapped");
    }
}

/// By `/proc/self/pagemap` (Linux `admin-guide/mm/pagemap.rst`).
fn physical_address(address: u64) -> Result<u64, String> {
    let page = PAGE as u64;
    let pagemap = File::open("/proc/self/pagemap").map_err(|error| format!("pagemap: {error}"))?;
    let mut entry = [0; 8];
    pagemap
        .read_exact_at(&mut entry, address / page * 8)
        .map_err(|error| format!("pagemap: {error}"))?;
    let frame = u64::from_le_bytes(entry) & ((1 << 55) - 1);
    if frame == 0 {
        Err("pagemap shows no frame".to_owned())
    } else {
        Ok(frame * page)
    }
}
