//! The arguments of every command that reads an image.

use std::path::PathBuf;

use clap::Args;

use crate::image::{Platform, Reference};
use crate::limits::Limits;

/// Which image, and how it is read.
#[derive(Args, Clone)]
pub(crate) struct ImageArguments {
    /// oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR or tar:FILE; @DIGEST pins one of a layout
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

    #[command(flatten)]
    pub(crate) limits: Limits,
}
