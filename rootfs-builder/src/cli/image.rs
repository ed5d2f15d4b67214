//! The arguments of every command that reads an image.

use std::path::PathBuf;

use clap::Args;

use crate::image::{Platform, Reference};
use crate::limits::Limits;

/// Which image, and how it is read.
#[derive(Args, Clone)]
pub(crate) struct ImageArguments {
    /// oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], docker://NAME[:TAG], dir:DIR or tar:FILE; @DIGEST pins one of a layout
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Reference,

    #[command(flatten)]
    pub(crate) options: ImageOptions,
}

/// What reading an image needs to know beside which.
#[derive(Args, Clone)]
pub(crate) struct ImageOptions {
    /// Choose the image for this platform, and refuse one for another [default: that of this machine, where there is a choice]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,

    /// Where layers are unpacked on the way; needs as much space as they have bytes [default: $TMPDIR or /var/tmp]
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,

    /// Print the result as JSON: digests, sizes, and what was written
    #[arg(long)]
    pub(crate) json: bool,

    /// Ask a registry without TLS
    #[arg(long, help_heading = "Registries")]
    pub(crate) insecure: bool,

    /// Ask HOST before the registry that is named. Repeatable
    #[arg(
        long = "mirror",
        value_name = "HOST[:PORT]",
        help_heading = "Registries"
    )]
    pub(crate) mirrors: Vec<String>,

    /// The longest wait for anything to arrive from a registry
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Registries",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,

    /// Where blobs of registries are kept, verified each time [default: $XDG_CACHE_HOME/husk/blobs or ~/.cache/husk/blobs]
    #[arg(long, value_name = "DIR", help_heading = "Registries")]
    pub(crate) cache: Option<PathBuf>,

    /// Keep no blobs
    #[arg(long, conflicts_with = "cache", help_heading = "Registries")]
    pub(crate) no_cache: bool,

    #[command(flatten)]
    pub(crate) limits: Limits,
}
