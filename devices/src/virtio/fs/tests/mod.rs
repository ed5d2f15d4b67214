//! A guest that speaks FUSE by hand, to a server on a temporary directory.

mod hostile;
mod ordinary;
mod read_only;
mod sync;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use fuse_backend_rs::abi::fuse_abi::{
    EntryOut, InHeader, InitIn, InitOut, Opcode, OpenIn, OpenOut, OutHeader, ROOT_ID, ReadIn,
    WriteIn,
};
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::tempdir::TempDir;

use super::request::MAX_IO;
use super::server::{Cache, FsServer, Options};
use crate::irq::Interrupt;
use crate::memory::GuestMemory;
use crate::virtio::queue::RequestQueue;

const QUEUE_LEN: u16 = 64;
const REQUEST_AT: u64 = 0x10_0000;
const REPLY_AT: u64 = 0x40_0000;
const MEMORY: usize = 0x80_0000;
const LAST_SYNC: &str = "user.test.last";
/// Room for any reply.
const ROOM: u32 = MAX_IO + 4096;

struct NoInterrupt;

impl Interrupt for NoInterrupt {
    fn trigger(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The answer to a request: a body or an errno. Nothing at all is a panic, unless asked for.
type Answer = Result<Vec<u8>, i32>;

struct Guest {
    memory: GuestMemory,
    server: FsServer,
    directory: TempDir,
    uid: u32,
    gid: u32,
    unique: u64,
}

impl Guest {
    /// A guest that has mounted the file system.
    fn new() -> Self {
        let mut guest = Self::unmounted(Cache::Auto);
        guest.init(7, 41, u32::MAX).unwrap();
        guest
    }

    fn unmounted(cache: Cache) -> Self {
        let directory = TempDir::new().unwrap();
        let options = Options {
            root: directory.as_path().to_str().unwrap().to_owned(),
            cache,
            writeback: false,
            last_sync: LAST_SYNC,
        };
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        Self {
            memory: GuestMemory::new(memory),
            server: FsServer::new(&options).unwrap(),
            directory,
            uid: 0,
            gid: 0,
            unique: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.as_path().join(name)
    }

    /// Sends `bytes` as they are. `None`: the chain came back empty.
    fn send(&mut self, bytes: &[u8], room: u32) -> Option<Answer> {
        use vm_memory::GuestAddressSpace;
        let memory = self.memory.memory();
        memory.write_slice(&[0; 0x1000], GuestAddress(0)).unwrap();
        memory.write_slice(bytes, GuestAddress(REQUEST_AT)).unwrap();
        let ring = MockSplitQueue::create(&*memory, GuestAddress(0), QUEUE_LEN);
        let len = u32::try_from(bytes.len()).unwrap();
        let mut descriptors = vec![(REQUEST_AT, len, 0)];
        if room > 0 {
            descriptors.push((REPLY_AT, room, VRING_DESC_F_WRITE));
        }
        let last = descriptors.len() - 1;
        let descriptors: Vec<RawDescriptor> = descriptors
            .into_iter()
            .enumerate()
            .map(|(i, (address, len, flags))| {
                let next = if i < last { VRING_DESC_F_NEXT } else { 0 };
                let flags = u16::try_from(flags | next).unwrap();
                RawDescriptor::from(Descriptor::new(
                    address,
                    len,
                    flags,
                    u16::try_from(i + 1).unwrap(),
                ))
            })
            .collect();
        ring.add_desc_chains(&descriptors, 0).unwrap();
        let queue = RequestQueue::new(
            ring.create_queue().unwrap(),
            self.memory.clone(),
            Arc::new(EventFd::new(0).unwrap()),
            Arc::new(NoInterrupt),
        );
        self.answer(queue)
    }

    fn answer(&mut self, mut queue: RequestQueue) -> Option<Answer> {
        use vm_memory::GuestAddressSpace;
        let chain = queue.pop().unwrap().unwrap();
        let written = self.server.handle(&chain).written;
        queue.complete(chain.head(), written).unwrap();
        if written == 0 {
            return None;
        }
        let memory = self.memory.memory();
        let header: OutHeader = memory.read_obj(GuestAddress(REPLY_AT)).unwrap();
        assert_eq!(header.len, written, "the used length is that of the reply");
        assert_eq!(header.unique, self.unique, "the reply is to this request");
        if header.error != 0 {
            assert_eq!(written, 16, "an error has no body");
            return Some(Err(-header.error));
        }
        let mut body = vec![0; written as usize - 16];
        memory
            .read_slice(&mut body, GuestAddress(REPLY_AT + 16))
            .unwrap();
        Some(Ok(body))
    }

    /// A request with a right header.
    fn request(&mut self, opcode: u32, nodeid: u64, body: &[u8]) -> Vec<u8> {
        self.unique += 1;
        let header = InHeader {
            len: u32::try_from(40 + body.len()).unwrap(),
            opcode,
            unique: self.unique,
            nodeid,
            uid: self.uid,
            gid: self.gid,
            ..InHeader::default()
        };
        [header.as_slice(), body].concat()
    }

    fn ask(&mut self, opcode: Opcode, nodeid: u64, body: &[u8]) -> Answer {
        let bytes = self.request(opcode as u32, nodeid, body);
        self.send(&bytes, ROOM).expect("a reply")
    }

    /// A request that has no reply.
    fn tell(&mut self, opcode: Opcode, nodeid: u64, body: &[u8]) {
        let bytes = self.request(opcode as u32, nodeid, body);
        assert!(self.send(&bytes, ROOM).is_none());
    }

    fn init(&mut self, major: u32, minor: u32, flags: u32) -> Result<InitOut, i32> {
        let init = InitIn {
            major,
            minor,
            max_readahead: 131_072,
            flags,
        };
        self.ask(Opcode::Init, 0, init.as_slice())
            .map(|body| decode(&body))
    }

    fn lookup(&mut self, parent: u64, name: &str) -> Result<EntryOut, i32> {
        self.ask(Opcode::Lookup, parent, &named(name))
            .map(|body| decode(&body))
    }

    fn open(&mut self, nodeid: u64, flags: i32) -> Result<OpenOut, i32> {
        let open = OpenIn {
            flags: u32::try_from(flags).unwrap(),
            fuse_flags: 0,
        };
        self.ask(Opcode::Open, nodeid, open.as_slice())
            .map(|body| decode(&body))
    }

    fn read(&mut self, nodeid: u64, fh: u64, offset: u64, size: u32) -> Answer {
        let read = ReadIn {
            fh,
            offset,
            size,
            ..ReadIn::default()
        };
        self.ask(Opcode::Read, nodeid, read.as_slice())
    }

    fn write(&mut self, nodeid: u64, fh: u64, offset: u64, data: &[u8], how: u32) -> Answer {
        let write = WriteIn {
            fh,
            offset,
            size: u32::try_from(data.len()).unwrap(),
            fuse_flags: how,
            flags: u32::try_from(libc::O_WRONLY).unwrap(),
            ..WriteIn::default()
        };
        self.ask(Opcode::Write, nodeid, &[write.as_slice(), data].concat())
    }

    /// Makes a file on the host and returns its node.
    fn file(&mut self, name: &str, data: &[u8]) -> u64 {
        fs::write(self.path(name), data).unwrap();
        self.lookup(ROOT_ID, name).unwrap().nodeid
    }
}

fn decode<T: ByteValued + Default>(bytes: &[u8]) -> T {
    let mut value = T::default();
    let len = value.as_slice().len();
    value.as_mut_slice().copy_from_slice(&bytes[..len]);
    value
}

fn named(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn with<T: ByteValued>(fixed: T, names: &[&str]) -> Vec<u8> {
    let mut bytes = fixed.as_slice().to_vec();
    for name in names {
        bytes.extend(named(name));
    }
    bytes
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .map(|name: std::ffi::OsString| OsStr::to_string_lossy(&name).into_owned())
        .collect();
    names.sort();
    names
}
