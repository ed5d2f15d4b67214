//! How a machine ends, and what that is as an exit code of husk-vmm.

use std::process::ExitCode;

use crate::confine::ConfineError;
use crate::kvm::KvmError;

/// The end of a machine.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest reset itself.
    Reset,
    /// The guest's kernel panicked.
    Panicked,
    /// A processor shut down: a triple fault.
    TripleFault,
    /// Somebody ended it, through the API or by a signal, or nobody holds its lifeline any more.
    Killed,
    /// A processor cannot go on.
    Kvm(KvmError),
    /// A thread could not give up what it does not need.
    Unconfined(ConfineError),
    /// A processor stopped for a reason that husk does not know.
    Unexpected(String),
}

impl Outcome {
    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::PoweredOff | Self::Reset => 0,
            Self::Kvm(error) if error.is_host() => 3,
            Self::Kvm(_) | Self::Unconfined(_) | Self::Unexpected(_) => 1,
            Self::Panicked | Self::TripleFault => 4,
            Self::Killed => 137,
        })
    }

    /// What there is to say about it, unless the guest just ended.
    pub(crate) fn complaint(&self) -> Option<String> {
        match self {
            Self::PoweredOff | Self::Reset | Self::Killed => None,
            Self::Panicked => Some("the guest's kernel panicked".to_owned()),
            Self::TripleFault => Some("the guest stopped with a triple fault".to_owned()),
            Self::Kvm(error) => Some(crate::error::chain(error)),
            Self::Unconfined(error) => Some(crate::error::chain(error)),
            Self::Unexpected(exit) => Some(format!("a processor stopped unexpectedly: {exit}")),
        }
    }
}
