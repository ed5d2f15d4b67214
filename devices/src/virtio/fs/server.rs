//! The seam to fuse-backend-rs: one request in, one reply out.
//!
//! ```text
//!   chain --Request::read--> checked copy --+-- INIT, DESTROY, WRITE, SYNCFS: here
//!                 |                         +-- the others: Server::handle_message
//!                 +-- refused: errno        +-- neither understood it: errno
//! ```
//!
//! Whatever the guest sends, its chain comes back, with a reply if it has room for one.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{FsOptions, Opcode, ROOT_ID, WriteIn, WriteOut};
use fuse_backend_rs::api::filesystem::{Context, FileSystem, ZeroCopyReader};
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::file_traits::FileReadWriteVolatile;
use fuse_backend_rs::passthrough::{self, PassthroughFs};
use fuse_backend_rs::transport::{FuseBuf, Reader, VirtioFsWriter};
use vm_memory::ByteValued;

use super::fsetid::WithoutFsetid;
use super::negotiate::{self, Offer};
use super::reply;
use super::request::{HEADER, Request};
use super::sync::Sync;
use crate::virtio::queue::Chain;

/// What the guest may cache of the host's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Nothing: every access asks the host.
    Never,
    /// Names and attributes for a second, data until the file is opened again.
    Auto,
    /// Everything, for a day.
    Always,
}

/// How a directory is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory, as the serving thread will see it when a guest mounts the file system. Not opened before.
    pub root: String,
    /// What the guest may cache.
    pub cache: Cache,
    /// Whether it may gather writes.
    pub writeback: bool,
    /// The extended attribute of the root that a guest sets when it is about to end: a `sync` need not reach the disk then.
    pub last_sync: &'static str,
}

impl Options {
    /// The settings of the server, where they differ from its defaults.
    ///
    /// - `use_host_ino`: with numbers of its own it remembers every file ever seen, for ever.
    /// - no `inode_file_handles`: with them a file that is deleted frees its inode number, the next file gets it, and a late
    ///   `FORGET` of the first takes the second from the guest. Open descriptors (`O_PATH`) keep the number taken; their count
    ///   is bounded by the process's limit, at which the guest gets `EMFILE`.
    /// - `killpriv_v2`: set-user-id bits and file capabilities go on a write, without a query before each write.
    fn config(&self) -> passthrough::Config {
        let timeout = match self.cache {
            Cache::Never => Duration::ZERO,
            Cache::Auto => Duration::from_secs(1),
            Cache::Always => Duration::from_secs(24 * 60 * 60),
        };
        let cache_policy = match self.cache {
            Cache::Never => passthrough::CachePolicy::Never,
            Cache::Auto => passthrough::CachePolicy::Auto,
            Cache::Always => passthrough::CachePolicy::Always,
        };
        passthrough::Config {
            root_dir: self.root.clone(),
            attr_timeout: timeout,
            entry_timeout: timeout,
            cache_policy,
            writeback: self.writeback && self.cache != Cache::Never,
            xattr: true,
            killpriv_v2: true,
            use_host_ino: true,
            ..passthrough::Config::default()
        }
    }
}

/// Where the data of a write begins.
const WRITE_HEADERS: usize = HEADER + size_of::<WriteIn>();

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Bytes of the reply.
    pub(super) written: u32,
    /// Whether it was refused before the server saw it.
    pub(super) refused: bool,
}

/// A FUSE server for one directory.
pub(super) struct FsServer {
    fs: Arc<PassthroughFs>,
    server: Server<Arc<PassthroughFs>>,
    sync: Sync,
    initialized: bool,
}

impl FsServer {
    /// A server that waits for `FUSE_INIT`. Opens `/proc/self/fd` and `/proc/self/mountinfo`, nothing else.
    pub(super) fn new(options: &Options) -> io::Result<Self> {
        let fs = Arc::new(PassthroughFs::new(options.config())?);
        Ok(Self {
            server: Server::new(Arc::clone(&fs)),
            fs,
            sync: Sync::new(options),
            initialized: false,
        })
    }

    /// Serves one request.
    pub(super) fn handle(&mut self, chain: &Chain) -> Outcome {
        match Request::read(chain) {
            Ok(request) => {
                let unique = request.header.unique;
                let replies = request.replies;
                let written = match self.serve(chain, request) {
                    Ok(written) => written,
                    Err(errno) if replies => reply::error(chain, unique, errno),
                    Err(_) => 0,
                };
                Outcome {
                    written,
                    refused: false,
                }
            }
            Err(refused) => Outcome {
                written: refused
                    .unique
                    .map_or(0, |unique| reply::error(chain, unique, refused.errno)),
                refused: true,
            },
        }
    }

    /// Forgets all that the guest knew: its inodes, its open files.
    pub(super) fn forget_guest(&mut self) {
        if self.initialized {
            self.initialized = false;
            self.sync.begin();
            self.fs.destroy();
        }
    }

    fn serve(&mut self, chain: &Chain, request: Request) -> Result<u32, i32> {
        match request.opcode {
            Opcode::Init => self.init(chain, &request),
            Opcode::Destroy => {
                self.forget_guest();
                Ok(reply::success(chain, request.header.unique, &[]))
            }
            _ if !self.initialized => Err(libc::EIO),
            Opcode::Write => self.write(chain, &request),
            // SYNCFS, by its other name.
            Opcode::MaxOpcode => self.sync(chain, &request),
            Opcode::Fallocate if request.header.uid != 0 => {
                // The server forgets that allocating is writing, and takes set-user-id bits along.
                let _lowered = WithoutFsetid::enter().map_err(|error| errno(&error))?;
                self.forward(chain, request)
            }
            Opcode::Lookup if request.header.nodeid == ROOT_ID => {
                let written = self.forward(chain, request)?;
                reply::mark_submount(chain);
                Ok(written)
            }
            Opcode::Readdirplus if request.header.nodeid == ROOT_ID => {
                let written = self.forward(chain, request)?;
                reply::mark_submounts(chain, written);
                Ok(written)
            }
            Opcode::Setxattr if self.sync.is_last(&request) => {
                Ok(reply::success(chain, request.header.unique, &[]))
            }
            _ => self.forward(chain, request),
        }
    }

    /// A second `INIT` is a new guest kernel, or a new mount, that did not say good-bye: it begins with nothing.
    fn init(&mut self, chain: &Chain, request: &Request) -> Result<u32, i32> {
        let unique = request.header.unique;
        let (options, readahead) = match negotiate::offer(request)? {
            Offer::Newer => {
                return Ok(reply::success(
                    chain,
                    unique,
                    negotiate::version().as_slice(),
                ));
            }
            Offer::Ours { options, readahead } => (options, readahead),
        };
        self.forget_guest();
        let acted: FsOptions = self.fs.init(options).map_err(|error| errno(&error))?;
        self.initialized = true;
        let answer = negotiate::accept(options, acted, readahead);
        Ok(reply::success(chain, unique, answer.as_slice()))
    }

    /// Data goes from guest memory to the file without a copy, so the server cannot read the request by itself: it would read
    /// the header again, and the guest may have changed it.
    fn write(&self, chain: &Chain, request: &Request) -> Result<u32, i32> {
        let write: WriteIn = request.fixed()?;
        let header = Context::from(&request.header);
        let mut whole =
            Reader::from_descriptor_chain(chain.memory(), chain.raw()).map_err(|_| libc::EFAULT)?;
        let data = whole.split_at(WRITE_HEADERS).map_err(|_| libc::EINVAL)?;
        let count = self
            .fs
            .write(
                &header,
                request.header.nodeid,
                write.fh,
                &mut Data(data),
                write.size,
                write.offset,
                None,
                false,
                write.flags,
                write.fuse_flags,
            )
            .map_err(|error| errno(&error))?;
        let out = WriteOut {
            size: u32::try_from(count).map_err(|_| libc::EIO)?,
            ..WriteOut::default()
        };
        Ok(reply::success(chain, request.header.unique, out.as_slice()))
    }

    fn sync(&self, chain: &Chain, request: &Request) -> Result<u32, i32> {
        let path = self.fs.readlinkat_proc_file(request.header.nodeid);
        path.and_then(|path| self.sync.write_back(&path))
            .map_err(|error| errno(&error))?;
        Ok(reply::success(chain, request.header.unique, &[]))
    }

    fn forward(&self, chain: &Chain, mut request: Request) -> Result<u32, i32> {
        let reader =
            Reader::from_fuse_buffer(FuseBuf::new(&mut request.bytes)).map_err(|_| libc::EIO)?;
        let writer = VirtioFsWriter::new(chain.memory(), chain.raw()).map_err(|_| libc::EFAULT)?;
        let written = self
            .server
            .handle_message(reader, writer.into(), None, None)
            // Nothing was answered, or a reply did not fit: the guest gave too little room.
            .map_err(|_| libc::EIO)?;
        u32::try_from(written).map_err(|_| libc::EIO)
    }
}

/// The data of a write, in guest memory.
struct Data<'a>(Reader<'a>);

impl Read for Data<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl ZeroCopyReader for Data<'_> {
    fn read_to(
        &mut self,
        file: &mut dyn FileReadWriteVolatile,
        count: usize,
        offset: u64,
    ) -> io::Result<usize> {
        self.0.read_to_at(file, count, offset)
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
