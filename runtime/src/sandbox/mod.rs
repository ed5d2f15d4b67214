//! One virtual machine with an agent that answers: planned from a bundle, started or joined, and gone with its last container.

mod launch;
mod plan;
mod shares;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::READY_PORT;
use protocol::rpc::Request;
use protocol::sandbox::SandboxConfig;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) use launch::Vmm;
pub(crate) use plan::{Install, limit_of, memory_mib, plan};
pub(crate) use shares::ShareList;

use crate::agent_client::{AgentClient, AgentError};
use crate::monitor::Signals;
use crate::process::{Held, ProcessRef, wait_readable};
use crate::state::{Life, SandboxDir};

/// Name of the vsock device's unix socket in the sandbox's directory. Short: a socket's path has at most 107 bytes, and
/// Docker's state directories take 98 of them.
const SOCKET_FILE: &str = "v";

/// The same, seen from the directory of any container in the sandbox.
pub(crate) const SOCKET: &str = "s/v";

/// The machine's config, in the sandbox's directory.
pub(crate) const CONFIG: &str = "sandbox.json";

/// Longest time from the machine's start to the agent's call. An emulated machine under load needs half of it.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Longest time that a guest gets to write back what it has in memory before its machine is killed.
const WRITE_BACK_LIMIT: Duration = Duration::from_secs(5);

/// Longest time that a guest gets to take a container out of a machine that others stay in.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// husk does not know where it is installed.
    #[error("cannot find the installation of husk")]
    Install(#[source] io::Error),
    /// A file of the sandbox cannot be made.
    #[error("cannot make {path}")]
    File {
        /// The file or socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machine monitor cannot be started.
    #[error("cannot start {path}")]
    Launch {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machine ended before the agent answered.
    #[error("sandbox did not start: {reason}")]
    Died {
        /// What `husk-vmm` said.
        reason: String,
    },
    /// The agent did not call in time.
    #[error("sandbox did not start: no word from its agent for {} s", BOOT_LIMIT.as_secs())]
    Silent,
    /// A signal asked this process to end.
    #[error("interrupted while the sandbox started")]
    Interrupted,
    /// Waiting for the agent failed.
    #[error("cannot wait for the sandbox")]
    Wait(#[source] io::Error),
    /// The sandbox that was to be joined has ended.
    #[error("sandbox has ended")]
    Ended,
    /// The files of a container cannot be shared with a sandbox that runs, or no longer.
    #[error("cannot change the shares of the sandbox: {reason}")]
    Shares {
        /// What `husk-vmm` said.
        reason: String,
    },
    /// The agent of a sandbox that runs does not answer.
    #[error("cannot join the sandbox")]
    Join(#[source] AgentError),
    /// The agent called and then did not behave.
    #[error("sandbox did not start")]
    Agent(#[source] AgentError),
}

/// One container's hold on a running machine, and its connection to the agent. When the last one is dropped, the machine ends.
#[derive(Debug)]
pub(crate) struct Sandbox {
    machine: Machine,
    /// The connection whose end is that of the container made over it.
    pub(crate) agent: AgentClient,
    /// The socket for further ones.
    pub(crate) socket: PathBuf,
    life: Life,
}

/// The machine, seen from a monitor.
#[derive(Debug)]
enum Machine {
    /// This process started it.
    Started(Vmm),
    /// Another process did.
    Joined(Held),
}

/// A machine whose agent has not called yet.
#[derive(Debug)]
pub(crate) struct Booting {
    vmm: Vmm,
    ready: UnixListener,
    socket: PathBuf,
    life: Life,
}

impl Booting {
    /// Starts the machine of the sandbox in `dir`, which ends when nobody holds `life` any more; `lifeline` is its end of that.
    pub(crate) fn launch(
        install: &Install,
        config: &SandboxConfig,
        dir: &SandboxDir,
        (life, lifeline): (Life, File),
    ) -> Result<Self, SandboxError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| SandboxError::File { path, source }
        };
        let config_file = dir.file(CONFIG);
        let json = serde_json::to_vec(config).map_err(|error| file(&config_file)(error.into()))?;
        fs::write(&config_file, json).map_err(file(&config_file))?;
        let socket = dir.file(SOCKET_FILE);
        // The agent calls here as soon as it serves: nobody needs to ask it again and again.
        let ready_socket = dir.file(&format!("{SOCKET_FILE}_{READY_PORT}"));
        let ready = UnixListener::bind(&ready_socket).map_err(file(&ready_socket))?;
        let vmm = Vmm::launch(&install.vmm, &config_file, lifeline, dir.file("vmm.log"))?;
        Ok(Self {
            vmm,
            ready,
            socket,
            life,
        })
    }

    /// How `state.json` names the machine monitor.
    pub(crate) fn process(&self) -> Result<ProcessRef, SandboxError> {
        self.vmm.process().map_err(SandboxError::Wait)
    }

    /// Waits for the agent.
    pub(crate) fn wait(mut self, signals: &Signals) -> Result<Sandbox, SandboxError> {
        let stream = self.accept(signals)?;
        let agent = AgentClient::greet(stream).map_err(|error| self.explain(error))?;
        Ok(Sandbox {
            machine: Machine::Started(self.vmm),
            agent,
            socket: self.socket,
            life: self.life,
        })
    }

    fn accept(&mut self, signals: &Signals) -> Result<UnixStream, SandboxError> {
        let end = Instant::now() + BOOT_LIMIT;
        loop {
            let left = Timespec::try_from(end.saturating_duration_since(Instant::now()));
            let mut fds = [
                PollFd::new(&self.ready, PollFlags::IN),
                PollFd::new(&self.vmm, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
            ];
            let ready = rustix::io::retry_on_intr(|| poll(&mut fds, left.as_ref().ok()));
            let ready = ready.map_err(|errno| SandboxError::Wait(errno.into()))?;
            let [called, died, signalled] = fds.map(|fd| !fd.revents().is_empty());
            if called {
                return Ok(self.ready.accept().map_err(SandboxError::Wait)?.0);
            }
            if died {
                return Err(SandboxError::Died {
                    reason: self.vmm.last_words(),
                });
            }
            if signalled && signals.asked_to_end() {
                return Err(SandboxError::Interrupted);
            }
            if ready == 0 {
                return Err(SandboxError::Silent);
            }
        }
    }

    /// A connection breaks when the machine dies: then its own words say more.
    fn explain(&mut self, error: AgentError) -> SandboxError {
        match self.vmm.wait(Duration::ZERO) {
            true => SandboxError::Died {
                reason: self.vmm.last_words(),
            },
            false => SandboxError::Agent(error),
        }
    }
}

impl Sandbox {
    /// Joins the sandbox in `dir`, whose machine is `machine`.
    pub(crate) fn join(dir: &SandboxDir, machine: Held, life: Life) -> Result<Self, SandboxError> {
        let socket = dir.file(SOCKET_FILE);
        let agent = AgentClient::connect(&socket).map_err(SandboxError::Join)?;
        Ok(Self {
            machine: Machine::Joined(machine),
            agent,
            socket,
            life,
        })
    }

    /// Ends the container `id`, and with the last one of its sandbox the machine, once the guest has written back what its programs
    /// left in memory. How the guest would power off after that is of no interest to anybody. Says whether it was the last.
    pub(crate) fn leave(mut self, id: &str) -> bool {
        let last = self.life.is_last();
        if last {
            // The machine ends when this is dropped, whatever the agent says.
            drop(self.agent.shut_down(WRITE_BACK_LIMIT));
        } else {
            let (id, force) = (id.to_owned(), true);
            let told = self.agent.send(&Request::Delete { id, force });
            // At the latest the agent does so when the connection closes: one that does not answer holds nobody up.
            if told.is_ok() {
                wait_readable(self.agent.as_fd(), LEAVE_LIMIT);
            }
        }
        last
    }

    /// Why the machine ended, if it has.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        let ended = self.machine.wait(Duration::ZERO);
        ended.then(|| match &mut self.machine {
            Machine::Started(vmm) => vmm.last_words(),
            Machine::Joined(_) => "its machine ended".to_owned(),
        })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let last = self.life.is_last();
        match &mut self.machine {
            Machine::Started(vmm) if !last => vmm.leave(),
            // Dropped next, which ends it.
            Machine::Started(_) => {}
            Machine::Joined(held) if last => held.end(),
            Machine::Joined(_) => {}
        }
    }
}

impl Machine {
    /// Waits for its end; false if it still runs after `limit`.
    fn wait(&self, limit: Duration) -> bool {
        wait_readable(self.as_fd(), limit)
    }
}

impl AsFd for Machine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Started(vmm) => vmm.as_fd(),
            Self::Joined(held) => held.as_fd(),
        }
    }
}

impl AsFd for Sandbox {
    /// Readable once the machine has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.machine.as_fd()
    }
}
