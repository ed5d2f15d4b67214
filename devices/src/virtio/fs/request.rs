//! The shape of FUSE requests, checked on a copy before the server sees them.
//!
//! The server trusts its caller for much: it allocates what a size field says, passes any open flag to `openat`, lets `..`
//! through where NFS export wants it, and answers a malformed request with nothing at all. The caller here is a hostile guest.
//! So each request is copied out of guest memory once (bulk data of writes aside), compared with a closed table of
//! operations, and its dangerous fields are narrowed in the copy. What is not in the table does not reach the server.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{
    AttrOut, BatchForgetIn, CreateIn, EntryOut, FATTR_FH, FallocateIn, FlushIn, ForgetIn,
    ForgetOne, FsyncIn, GetattrIn, GetxattrIn, InHeader, InitIn, InterruptIn, Kstatfs, LinkIn,
    LseekIn, LseekOut, MkdirIn, MknodIn, Opcode, OpenIn, OpenOut, OutHeader, ReadIn, ReleaseIn,
    Rename2In, RenameIn, SetattrIn, SetattrValid, SetxattrIn, WriteIn, WriteOut,
};
use vm_memory::ByteValued;

use super::sync::{SYNCFS, SYNCFS_IN};
use crate::virtio::queue::Chain;

/// Length of the header of a request.
pub(super) const HEADER: usize = size_of::<InHeader>();
/// Length of the header of a reply.
pub(super) const REPLY_HEADER: usize = size_of::<OutHeader>();
/// Most bytes of one read or write, and so of one reply: what a guest kernel can put into one request at most.
pub(super) const MAX_IO: u32 = 1 << 20;
/// Most bytes of a directory listing in one reply. A shorter one than asked for is always right.
const MAX_LISTING: u32 = 128 << 10;
/// Longest file name (`NAME_MAX`).
const MAX_NAME: usize = 255;
/// Longest target of a symbolic link (`PATH_MAX` with its NUL).
const MAX_TARGET: usize = 4095;
/// Longest value of an extended attribute, and longest list of their names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX_XATTR: u32 = 64 << 10;
/// Most inodes forgotten by one request.
const MAX_FORGETS: u32 = 4096;
/// Longest request that is copied: the longest of the above with its headers.
const MAX_COPY: usize = 96 << 10;

/// Flags of `open` that mean something to a server. `O_PATH` would follow symbolic links, `O_TMPFILE` makes files without a
/// name, `O_ASYNC` sends signals.
const OPEN_FLAGS: u32 = (libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_DIRECT
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME) as u32;

/// What follows the fixed part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing.
    Empty,
    /// A file name.
    Name,
    /// Two file names.
    TwoNames,
    /// A file name and the target of a symbolic link.
    NameAndTarget,
    /// The name of an extended attribute.
    Xattr,
    /// Name and value of an extended attribute.
    XattrAndValue,
    /// Inodes to forget.
    Forgets,
    /// Data to write, which stays in guest memory.
    Data,
    /// Whatever newer protocol versions append.
    Extension,
}

/// What an operation looks like.
#[derive(Debug)]
struct Shape {
    opcode: Opcode,
    fixed: usize,
    tail: Tail,
    /// Least room for the body of a successful reply; `None` where there is no reply.
    reply: Option<usize>,
}

impl Shape {
    /// Length of header and fixed part: constants of the table, a hundred bytes or so.
    const fn least(&self) -> usize {
        HEADER.saturating_add(self.fixed)
    }

    /// Least room for a whole successful reply.
    fn room(&self) -> usize {
        self.reply
            .map_or(0, |body| REPLY_HEADER.saturating_add(body))
    }
}

const fn shape(opcode: Opcode, fixed: usize, tail: Tail, reply: usize) -> Shape {
    Shape {
        opcode,
        fixed,
        tail,
        reply: Some(reply),
    }
}

const fn silent(opcode: Opcode, fixed: usize, tail: Tail) -> Shape {
    Shape {
        opcode,
        fixed,
        tail,
        reply: None,
    }
}

const ENTRY: usize = size_of::<EntryOut>();
const ATTR: usize = size_of::<AttrOut>();

/// Every operation served. Locks are not among them: the guest's kernel keeps its locks itself (see `negotiate`). Neither are
/// ioctl, poll and DAX mappings.
const SHAPES: &[Shape] = &[
    shape(Opcode::Lookup, 0, Tail::Name, ENTRY),
    silent(Opcode::Forget, size_of::<ForgetIn>(), Tail::Empty),
    shape(Opcode::Getattr, size_of::<GetattrIn>(), Tail::Empty, ATTR),
    shape(Opcode::Setattr, size_of::<SetattrIn>(), Tail::Empty, ATTR),
    shape(Opcode::Readlink, 0, Tail::Empty, 0),
    shape(Opcode::Symlink, 0, Tail::NameAndTarget, ENTRY),
    shape(Opcode::Mknod, size_of::<MknodIn>(), Tail::Name, ENTRY),
    shape(Opcode::Mkdir, size_of::<MkdirIn>(), Tail::Name, ENTRY),
    shape(Opcode::Unlink, 0, Tail::Name, 0),
    shape(Opcode::Rmdir, 0, Tail::Name, 0),
    shape(Opcode::Rename, size_of::<RenameIn>(), Tail::TwoNames, 0),
    shape(Opcode::Rename2, size_of::<Rename2In>(), Tail::TwoNames, 0),
    shape(Opcode::Link, size_of::<LinkIn>(), Tail::Name, ENTRY),
    shape(
        Opcode::Open,
        size_of::<OpenIn>(),
        Tail::Empty,
        size_of::<OpenOut>(),
    ),
    shape(Opcode::Read, size_of::<ReadIn>(), Tail::Empty, 0),
    shape(
        Opcode::Write,
        size_of::<WriteIn>(),
        Tail::Data,
        size_of::<WriteOut>(),
    ),
    shape(Opcode::Statfs, 0, Tail::Empty, size_of::<Kstatfs>()),
    shape(Opcode::Release, size_of::<ReleaseIn>(), Tail::Empty, 0),
    shape(Opcode::Fsync, size_of::<FsyncIn>(), Tail::Empty, 0),
    shape(
        Opcode::Setxattr,
        size_of::<SetxattrIn>(),
        Tail::XattrAndValue,
        0,
    ),
    shape(Opcode::Getxattr, size_of::<GetxattrIn>(), Tail::Xattr, 0),
    shape(Opcode::Listxattr, size_of::<GetxattrIn>(), Tail::Empty, 0),
    shape(Opcode::Removexattr, 0, Tail::Xattr, 0),
    shape(Opcode::Flush, size_of::<FlushIn>(), Tail::Empty, 0),
    shape(Opcode::Init, size_of::<InitIn>(), Tail::Extension, 0),
    shape(
        Opcode::Opendir,
        size_of::<OpenIn>(),
        Tail::Empty,
        size_of::<OpenOut>(),
    ),
    shape(Opcode::Readdir, size_of::<ReadIn>(), Tail::Empty, 0),
    shape(Opcode::Readdirplus, size_of::<ReadIn>(), Tail::Empty, 0),
    shape(Opcode::Releasedir, size_of::<ReleaseIn>(), Tail::Empty, 0),
    shape(Opcode::Fsyncdir, size_of::<FsyncIn>(), Tail::Empty, 0),
    shape(
        Opcode::Create,
        size_of::<CreateIn>(),
        Tail::Name,
        ENTRY + size_of::<OpenOut>(),
    ),
    silent(Opcode::Interrupt, size_of::<InterruptIn>(), Tail::Empty),
    shape(Opcode::Destroy, 0, Tail::Empty, 0),
    silent(
        Opcode::BatchForget,
        size_of::<BatchForgetIn>(),
        Tail::Forgets,
    ),
    shape(Opcode::Fallocate, size_of::<FallocateIn>(), Tail::Empty, 0),
    shape(
        Opcode::Lseek,
        size_of::<LseekIn>(),
        Tail::Empty,
        size_of::<LseekOut>(),
    ),
    shape(SYNCFS, SYNCFS_IN, Tail::Empty, 0),
];

/// A request that does not reach the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Where the guest hears of it: the request's `unique`, unless it has none or wants no reply.
    pub(super) unique: Option<u64>,
    /// With what error.
    pub(super) errno: i32,
}

/// A request that the server may see.
#[derive(Debug)]
pub(super) struct Request {
    /// Its header.
    pub(super) header: InHeader,
    /// Which operation it is.
    pub(super) opcode: Opcode,
    /// A private copy: header, fixed part and tail; of a write, without the data.
    pub(super) bytes: Vec<u8>,
    /// Whether the guest waits for a reply.
    pub(super) replies: bool,
}

impl Request {
    /// Copies and checks the request in `chain`.
    pub(super) fn read(chain: &Chain) -> Result<Self, Refused> {
        let header = read_header(chain)?;
        let refuse = |errno| Refused {
            unique: Some(header.unique),
            errno,
        };
        let shape = SHAPES
            .iter()
            .find(|shape| shape.opcode as u32 == header.opcode)
            .ok_or_else(|| refuse(libc::ENOSYS))?;
        Self::check(chain, header, shape).map_err(|errno| Refused {
            unique: shape.reply.map(|_| header.unique),
            errno,
        })
    }

    fn check(chain: &Chain, header: InHeader, shape: &Shape) -> Result<Self, i32> {
        let len = header.len as usize;
        let least = shape.least();
        if len < least || len as u64 > chain.readable_len() {
            return Err(libc::EINVAL);
        }
        if (shape.room() as u64) > chain.writable_len() {
            return Err(libc::EINVAL);
        }
        let copied = if shape.tail == Tail::Data { least } else { len };
        if copied > MAX_COPY {
            return Err(libc::E2BIG);
        }
        let mut bytes = vec![0; copied];
        chain.read_at(0, &mut bytes).map_err(|_| libc::EFAULT)?;
        // The copy's header is the one that was checked, whatever the guest has made of its own since.
        replace(&mut bytes, 0, header)?;
        let mut request = Self {
            header,
            opcode: shape.opcode,
            bytes,
            replies: shape.reply.is_some(),
        };
        request.check_tail(shape, len)?;
        request.narrow(chain)?;
        Ok(request)
    }

    /// The fixed part of the request, as `T`.
    pub(super) fn fixed<T: ByteValued + Default>(&self) -> Result<T, i32> {
        decode(&self.bytes, HEADER)
    }

    fn check_tail(&self, shape: &Shape, len: usize) -> Result<(), i32> {
        let start = shape.least();
        let tail = self.bytes.get(start..).unwrap_or_default();
        match shape.tail {
            Tail::Empty if tail.is_empty() => Ok(()),
            Tail::Empty => Err(libc::EINVAL),
            Tail::Extension => Ok(()),
            Tail::Name => check_name(string(tail)?),
            Tail::TwoNames => {
                let (first, rest) = split(tail)?;
                check_name(first).and_then(|()| check_name(string(rest)?))
            }
            Tail::NameAndTarget => {
                let (name, rest) = split(tail)?;
                check_name(name)?;
                check_target(string(rest)?)
            }
            Tail::Xattr => check_xattr(string(tail)?),
            Tail::XattrAndValue => {
                let (name, value) = split(tail)?;
                check_xattr(name)?;
                let SetxattrIn { size, .. } = self.fixed()?;
                same_len(size, value.len()).and(at_most(size, MAX_XATTR))
            }
            Tail::Forgets => {
                let BatchForgetIn { count, .. } = self.fixed()?;
                at_most(count, MAX_FORGETS)?;
                same_len(count, tail.chunks_exact(size_of::<ForgetOne>()).len())
            }
            Tail::Data => {
                let WriteIn { size, .. } = self.fixed()?;
                same_len(size, len.saturating_sub(start)).and(at_most(size, MAX_IO))
            }
        }
    }

    /// Lowers sizes to what can be answered, and drops flags that no guest kernel sends.
    fn narrow(&mut self, chain: &Chain) -> Result<(), i32> {
        match self.opcode {
            Opcode::Open | Opcode::Opendir => {
                self.change(|open: &mut OpenIn| open.flags &= OPEN_FLAGS & !creating())
            }
            Opcode::Create => self.change(|create: &mut CreateIn| create.flags &= OPEN_FLAGS),
            // A change of mode goes to the inode: the server has a system call of its own for open files, for which its thread
            // needs no permission then. Guest kernels name an open file only where they change its size.
            Opcode::Setattr => self.change(|set: &mut SetattrIn| {
                if set.valid & SetattrValid::MODE.bits() != 0 {
                    set.valid &= !FATTR_FH;
                }
            }),
            Opcode::Read => self.change(|read: &mut ReadIn| {
                read.flags &= OPEN_FLAGS;
                read.size = read.size.min(MAX_IO);
            }),
            Opcode::Write => self.change(|write: &mut WriteIn| write.flags &= OPEN_FLAGS),
            Opcode::Readdir | Opcode::Readdirplus => {
                let room = chain.writable_len().saturating_sub(REPLY_HEADER as u64);
                let most = u32::try_from(room).map_or(MAX_LISTING, |room| room.min(MAX_LISTING));
                self.change(|read: &mut ReadIn| read.size = read.size.min(most))
            }
            Opcode::Getxattr | Opcode::Listxattr => {
                self.change(|get: &mut GetxattrIn| get.size = get.size.min(MAX_XATTR))
            }
            _ => Ok(()),
        }
    }

    fn change<T: ByteValued + Default>(&mut self, edit: impl FnOnce(&mut T)) -> Result<(), i32> {
        let mut value = self.fixed()?;
        edit(&mut value);
        replace(&mut self.bytes, HEADER, value)
    }
}

const fn creating() -> u32 {
    (libc::O_CREAT | libc::O_EXCL) as u32
}

fn read_header(chain: &Chain) -> Result<InHeader, Refused> {
    let nobody = Refused {
        unique: None,
        errno: libc::EINVAL,
    };
    let mut bytes = [0; HEADER];
    match chain.read_at(0, &mut bytes) {
        Ok(HEADER) => decode(&bytes, 0).map_err(|_| nobody),
        _ => Err(nobody),
    }
}

fn decode<T: ByteValued + Default>(bytes: &[u8], at: usize) -> Result<T, i32> {
    let mut value = T::default();
    let part = bytes.get(at..).and_then(|rest| rest.get(..size_of::<T>()));
    value
        .as_mut_slice()
        .copy_from_slice(part.ok_or(libc::EINVAL)?);
    Ok(value)
}

fn replace<T: ByteValued>(bytes: &mut [u8], at: usize, value: T) -> Result<(), i32> {
    let part = bytes
        .get_mut(at..)
        .and_then(|rest| rest.get_mut(..size_of::<T>()));
    part.ok_or(libc::EINVAL)?.copy_from_slice(value.as_slice());
    Ok(())
}

/// `bytes` as one string, which ends at its only NUL.
fn string(bytes: &[u8]) -> Result<&[u8], i32> {
    match split(bytes)? {
        (name, []) => Ok(name),
        _ => Err(libc::EINVAL),
    }
}

/// The bytes before and after the first NUL.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), i32> {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    match (parts.next(), parts.next()) {
        (Some(name), Some(rest)) => Ok((name, rest)),
        _ => Err(libc::EINVAL),
    }
}

/// One path component, which leads nowhere but to an entry of its directory.
fn check_name(name: &[u8]) -> Result<(), i32> {
    if name.len() > MAX_NAME {
        return Err(libc::ENAMETOOLONG);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(libc::EINVAL);
    }
    Ok(())
}

fn check_target(target: &[u8]) -> Result<(), i32> {
    match target.len() {
        0 => Err(libc::EINVAL),
        1..=MAX_TARGET => Ok(()),
        _ => Err(libc::ENAMETOOLONG),
    }
}

fn check_xattr(name: &[u8]) -> Result<(), i32> {
    match name.len() {
        0 => Err(libc::EINVAL),
        1..=MAX_NAME => Ok(()),
        _ => Err(libc::ERANGE),
    }
}

fn same_len(said: u32, is: usize) -> Result<(), i32> {
    if said as usize == is {
        Ok(())
    } else {
        Err(libc::EINVAL)
    }
}

fn at_most(value: u32, most: u32) -> Result<(), i32> {
    if value <= most {
        Ok(())
    } else {
        Err(libc::E2BIG)
    }
}
