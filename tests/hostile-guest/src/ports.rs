//! Port I/O.

#![expect(unsafe_code, reason = "port instructions")]

/// Lets this process use all ports.
pub(crate) fn allow() -> Result<(), String> {
    // SAFETY: changes this process' privilege for port instructions only.
    let outcome: i64 = unsafe { iopl(3) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(format!("iopl: {outcome}"))
    }
}

unsafe fn iopl(level: i64) -> i64 {
    let outcome;
    // SAFETY: system call 172 of x86-64; the kernel changes rcx, r11 and rax.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") 172_i64 => outcome, in("rdi") level,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    outcome
}

/// Reads a port with 1, 2 or 4 bytes.
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one access, of several widths"
)]
pub(crate) fn read(port: u16, width: usize) -> u32 {
    let (byte, word, dword): (u8, u16, u32);
    // SAFETY: the machine is ours to break; no port of it changes this process' memory.
    unsafe {
        match width {
            1 => {
                std::arch::asm!("in al, dx", out("al") byte, in("dx") port, options(nomem, nostack));
                u32::from(byte)
            }
            2 => {
                std::arch::asm!("in ax, dx", out("ax") word, in("dx") port, options(nomem, nostack));
                u32::from(word)
            }
            _ => {
                std::arch::asm!("in eax, dx", out("eax") dword, in("dx") port, options(nomem, nostack));
                dword
            }
        }
    }
}

/// Writes a port with 1, 2 or 4 bytes.
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one access, of several widths"
)]
pub(crate) fn write(port: u16, width: usize, value: u32) {
    let [low, high, ..] = value.to_le_bytes();
    // SAFETY: the machine is ours to break; no port of it changes this process' memory.
    unsafe {
        match width {
            1 => {
                std::arch::asm!("out dx, al", in("al") low, in("dx") port, options(nomem, nostack));
            }
            2 => {
                let word = u16::from_le_bytes([low, high]);
                std::arch::asm!("out dx, ax", in("ax") word, in("dx") port, options(nomem, nostack));
            }
            _ => {
                std::arch::asm!("out dx, eax", in("eax") value, in("dx") port, options(nomem, nostack));
            }
        }
    }
}

/// Reads a port many times with a string instruction.
pub(crate) fn read_string(port: u16, buffer: &mut [u8]) {
    // SAFETY: `rep insb` writes exactly the buffer; the direction flag is clear by the calling convention.
    unsafe {
        std::arch::asm!("rep insb", inout("rcx") buffer.len() => _, inout("rdi") buffer.as_mut_ptr() => _,
            in("dx") port, options(nostack, preserves_flags));
    }
}

/// Writes a port many times with a string instruction.
pub(crate) fn write_string(port: u16, buffer: &[u8]) {
    // SAFETY: `rep outsb` reads exactly the buffer; the direction flag is clear by the calling convention.
    unsafe {
        std::arch::asm!("rep outsb", inout("rcx") buffer.len() => _, inout("rsi") buffer.as_ptr() => _,
            in("dx") port, options(nostack, preserves_flags, readonly));
    }
}
