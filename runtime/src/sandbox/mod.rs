//! One virtual machine with an agent that answers: planned from a bundle, started, and gone with its owner.

mod launch;
mod plan;

use std::fs;
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
pub(crate) use plan::{Install, plan};

use crate::agent_client::{AgentClient, AgentError};
use crate::monitor::Signals;
use crate::process::ProcessRef;

/// Name of the vsock device's unix socket in the state directory. Short: a socket's path has at most 107 bytes, and
/// Docker's state directories take 98 of them.
pub(crate) const SOCKET: &str = "v";

/// Longest time from the machine's start to the agent's call. An emulated machine under load needs half of it.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Longest time that a guest gets to power off before its machine is killed.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(5);

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
    /// The agent called and then did not behave.
    #[error("sandbox did not start")]
    Agent(#[source] AgentError),
}

/// A running machine and the first connection to its agent. Dropping it ends the machine.
#[derive(Debug)]
pub(crate) struct Sandbox {
    vmm: Vmm,
    /// The connection that the agent made.
    pub(crate) agent: AgentClient,
    /// The socket for further ones.
    pub(crate) socket: PathBuf,
}

/// A machine whose agent has not called yet.
#[derive(Debug)]
pub(crate) struct Booting {
    vmm: Vmm,
    ready: UnixListener,
    socket: PathBuf,
}

impl Booting {
    /// Starts the machine; its files go to `dir`.
    pub(crate) fn launch(
        install: &Install,
        config: &SandboxConfig,
        dir: &Path,
    ) -> Result<Self, SandboxError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| SandboxError::File { path, source }
        };
        let config_file = dir.join("sandbox.json");
        let json = serde_json::to_vec(config).map_err(|error| file(&config_file)(error.into()))?;
        fs::write(&config_file, json).map_err(file(&config_file))?;
        let socket = dir.join(SOCKET);
        // The agent calls here as soon as it serves: nobody needs to ask it again and again.
        let ready_socket = dir.join(format!("{SOCKET}_{READY_PORT}"));
        let ready = UnixListener::bind(&ready_socket).map_err(file(&ready_socket))?;
        let vmm = Vmm::launch(&install.vmm, &config_file, dir.join("vmm.log"))?;
        Ok(Self { vmm, ready, socket })
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
            vmm: self.vmm,
            agent,
            socket: self.socket,
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
    /// Lets the guest power off, which writes back what its programs left in memory, and ends the machine.
    pub(crate) fn shut_down(mut self) {
        // An agent that cannot be told is dealt with below: the machine ends in any case.
        let told = self.agent.send(&Request::Shutdown {});
        if told.is_ok() {
            self.vmm.wait(POWER_OFF_LIMIT);
        }
    }

    /// Why the machine ended, if it has.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        self.vmm.wait(Duration::ZERO).then(|| self.vmm.last_words())
    }
}

impl AsFd for Sandbox {
    /// Readable once the machine has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.vmm.as_fd()
    }
}
