//! The part of eBPF that deciding over devices takes: a few instructions, and the calls that load and attach a program.

#![expect(unsafe_code, reason = "no crate of the agent has bpf(2)")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::libc::{SYS_bpf, syscall};

/// One instruction, `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    /// The target in the low half, the source in the high one.
    registers: u8,
    offset: i16,
    immediate: u32,
}

// Codes of `linux/bpf_common.h`, `linux/bpf.h`: 32-bit operations, so that an immediate is not sign-extended.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbc;
const MOVE_IMMEDIATE: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const JUMP_IF_ANY: u8 = 0x46;
const EXIT: u8 = 0x95;

/// The register with the program's argument, a pointer to what is asked.
const CONTEXT: u8 = 1;
/// The register with its answer.
const ANSWER: u8 = 0;

impl Instruction {
    const fn new(code: u8, registers: u8, offset: i16, immediate: u32) -> Self {
        Self {
            code,
            registers,
            offset,
            immediate,
        }
    }

    /// Loads the word at a place of the argument.
    pub(super) const fn load(register: u8, place: i16) -> Self {
        Self::new(LOAD_WORD, register | CONTEXT << 4, place, 0)
    }

    pub(super) const fn copy(to: u8, from: u8) -> Self {
        Self::new(MOVE, to | from << 4, 0, 0)
    }

    pub(super) const fn and(register: u8, mask: u32) -> Self {
        Self::new(AND, register, 0, mask)
    }

    pub(super) const fn shift_right(register: u8, bits: u32) -> Self {
        Self::new(SHIFT_RIGHT, register, 0, bits)
    }

    /// Goes on `count` instructions further.
    pub(super) const fn skip(count: i16) -> Self {
        Self::new(JUMP, 0, count, 0)
    }

    /// The same, unless the register has the value. A rule has few instructions: `count` is small.
    pub(super) fn skip_unless_equal(register: u8, value: u32, count: usize) -> Self {
        let count = i16::try_from(count).unwrap_or(i16::MAX);
        Self::new(JUMP_UNLESS_EQUAL, register, count, value)
    }

    /// The same, if the register has one of the bits.
    pub(super) const fn skip_if_any(register: u8, bits: u32, count: i16) -> Self {
        Self::new(JUMP_IF_ANY, register, count, bits)
    }

    /// Ends the program.
    pub(super) const fn answer(yes: bool) -> [Self; 2] {
        [
            Self::new(MOVE_IMMEDIATE, ANSWER, 0, yes as u32),
            Self::new(EXIT, 0, 0, 0),
        ]
    }
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes the rest as zeros.
#[repr(C)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Lets a program decide over the devices that processes in a cgroup, an open directory, may use.
pub(super) fn attach_to_cgroup(program: &[Instruction], cgroup: impl AsFd) -> io::Result<()> {
    let load = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: `load` is what the command takes, and the program and the license that it points to outlive the call.
    let loaded = unsafe { bpf(PROG_LOAD, &load) }?;
    let loaded = i32::try_from(loaded).map_err(io::Error::other)?;
    // SAFETY: the call has made this descriptor, which nothing else knows.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let descriptor = |fd: i32| u32::try_from(fd).map_err(io::Error::other);
    let attach = Attach {
        target: descriptor(cgroup.as_fd().as_raw_fd())?,
        program: descriptor(loaded.as_raw_fd())?,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `attach` is what the command takes; it has no pointers.
    unsafe { bpf(PROG_ATTACH, &attach) }?;
    Ok(())
}

/// # Safety
/// `T` is the start of `union bpf_attr` as `command` takes it, and what it points to is valid.
unsafe fn bpf<T>(command: i32, attributes: &T) -> io::Result<i64> {
    // SAFETY: by the contract of this function; the size is that of what the pointer refers to.
    let outcome = unsafe { syscall(SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(outcome)
}

/// What a program answers, by the meaning of its instructions.
#[cfg(test)]
pub(super) fn interpret(program: &[Instruction], context: [u32; 3]) -> u32 {
    let mut registers = [0_u32; 11];
    let mut next = 0;
    loop {
        let instruction = program[next];
        let target = usize::from(instruction.registers & 15);
        let source = usize::from(instruction.registers >> 4);
        let immediate = instruction.immediate;
        next += 1;
        let jump = match instruction.code {
            LOAD_WORD => {
                let place = usize::try_from(instruction.offset).unwrap();
                registers[target] = context[place / 4];
                false
            }
            MOVE => {
                registers[target] = registers[source];
                false
            }
            MOVE_IMMEDIATE => {
                registers[target] = immediate;
                false
            }
            AND => {
                registers[target] &= immediate;
                false
            }
            SHIFT_RIGHT => {
                registers[target] >>= immediate;
                false
            }
            JUMP => true,
            JUMP_UNLESS_EQUAL => registers[target] != immediate,
            JUMP_IF_ANY => registers[target] & immediate != 0,
            EXIT => return registers[0],
            other => panic!("unknown code {other:#x}"),
        };
        if jump {
            next += usize::try_from(instruction.offset).unwrap();
        }
    }
}
