//! The command line: argument types only, checked as far as one argument can be by itself.

mod extra_file;
mod image;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compression::Compression;
use crate::image::Reference;
use crate::limits::parse_size;

pub(crate) use extra_file::{AdditionArguments, parse_mode};
pub(crate) use image::{ImageArguments, ImageOptions};

#[derive(Parser)]
#[command(
    name = "husk-rootfs",
    version,
    about = "Make root file systems and initrds from images"
)]
/// The command line of `husk-rootfs`.
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Unpack(Box<UnpackArguments>),
    Bundle(Box<BundleArguments>),
    Inspect(Box<InspectArguments>),
    Erofs(Box<ErofsArguments>),
    Ext4(Box<Ext4Arguments>),
    Initrd(Box<InitrdArguments>),
    Build(Box<BuildArguments>),
    /// Write manual pages and shell completion
    #[command(hide = true)]
    Manual {
        /// The directory `share` of the installation
        share: PathBuf,
    },
}

/// Unpack an image into a directory: the root file system itself, nothing beside it
///
/// The layers are verified, merged and written with owners, modes, dates, attributes and devices as the image has them.
/// DIR appears when it is whole, or not at all.
#[derive(Args)]
#[command(after_help = "Examples:
  husk-rootfs unpack oci:layout:latest rootfs
  husk-rootfs unpack docker-archive:saved.tar --json rootfs
  husk-rootfs unpack --rootless tar:debian.tar.zst rootfs")]
pub(crate) struct UnpackArguments {
    #[command(flatten)]
    pub(crate) image: ImageArguments,

    /// What is made: it must not exist, or be empty
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// Leave out what only root may do: owners, devices, and attributes of the namespaces trusted and security
    #[arg(long)]
    pub(crate) rootless: bool,
}

/// Make an OCI bundle of an image, as `husk run --bundle` takes it
///
/// config.json has the user, the environment, the directory and the program of the image, and its labels and ports as
/// annotations. DIR appears when it is whole, or not at all.
#[derive(Args)]
#[command(after_help = "Examples:
  husk-rootfs bundle oci:layout:latest bundle && husk run --bundle bundle c1
  husk-rootfs bundle docker-archive:saved.tar bundle -- ls -l")]
pub(crate) struct BundleArguments {
    #[command(flatten)]
    pub(crate) image: ImageArguments,

    /// What is made: it must not exist, or be empty
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// The program has a terminal
    #[arg(long)]
    pub(crate) terminal: bool,

    /// Leave out what only root may do: owners, devices, and attributes of the namespaces trusted and security
    #[arg(long)]
    pub(crate) rootless: bool,

    /// Arguments in the place of those of the image; its entry point stays
    #[arg(last = true, value_name = "ARG")]
    pub(crate) arguments: Vec<String>,
}

/// Show what an image is: its layers, and the tree with the size of everything
#[derive(Args)]
#[command(after_help = "Examples:
  husk-rootfs inspect oci:layout:latest
  husk-rootfs inspect --depth 4 --treemap sizes.svg docker-archive:saved.tar")]
pub(crate) struct InspectArguments {
    #[command(flatten)]
    pub(crate) image: ImageArguments,

    /// Directories within each other that are shown
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) depth: usize,

    /// Also draw the tree: each file as large as its share, coloured by layer
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) treemap: Option<PathBuf>,
}

/// Make an EROFS image of an image: a read-only disk for a guest, without root and without mounting
///
/// The same image gives the same bytes on any machine and any day. SOURCE_DATE_EPOCH, if set, is the date of what the image
/// gives none.
#[derive(Args)]
#[command(after_help = "Examples:
  husk-rootfs erofs oci:layout:latest root.erofs
  husk-rootfs erofs --compress lz4 --verity docker-archive:saved.tar root.erofs")]
pub(crate) struct ErofsArguments {
    #[command(flatten)]
    pub(crate) image: ImageArguments,

    #[command(flatten)]
    pub(crate) disk: DiskArguments,

    /// How files are compressed in it
    #[arg(long, value_name = "KIND", value_enum, default_value = "none")]
    pub(crate) compress: ErofsCompression,
}

/// Make an ext4 image of an image: a disk for a guest that may write to it, without root and without mounting
///
/// The same image gives the same bytes on any machine and any day. SOURCE_DATE_EPOCH, if set, is the date of what the image
/// gives none.
#[derive(Args)]
#[command(after_help = "Examples:
  husk-rootfs ext4 oci:layout:latest root.ext4
  husk-rootfs ext4 --free 2G tar:debian.tar root.ext4")]
pub(crate) struct Ext4Arguments {
    #[command(flatten)]
    pub(crate) image: ImageArguments,

    #[command(flatten)]
    pub(crate) disk: DiskArguments,

    /// Space for what is written later (K, M, G and T are binary); the file is sparse there. With --verity nothing is, so there is none
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size, conflicts_with = "verity",
        default_value_if("verity", clap::builder::ArgPredicate::IsPresent, "0"))]
    pub(crate) free: u64,
}

/// What is made of an image, for every kind of disk
#[derive(Args)]
pub(crate) struct DiskArguments {
    /// The file that is made
    #[arg(value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Append a tree of hashes for dm-verity, and print its root hash and the command line that boots a guest from it
    #[arg(long)]
    pub(crate) verity: bool,

    #[command(flatten)]
    pub(crate) additions: AdditionArguments,
}

/// How the files of an EROFS image are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ErofsCompression {
    None,
    Lz4,
}

/// Make an initrd, of an image or of nothing, with the agent as /init and other files
///
/// The result is a cpio archive in the format `newc`. It depends on the content of the image and the files and on nothing
/// else. It is written under another name and renamed when it is whole. Extended attributes are left out.
#[derive(Args)]
#[command(after_help = "Examples:
  husk-rootfs initrd --agent target/release/husk-agent --output initrd.img
  husk-rootfs initrd --agent busybox --output test.img --compress none --file job.sh:/etc/job.sh:755
  husk-rootfs initrd --compress zstd --output debian.img docker-archive:saved.tar")]
pub(crate) struct InitrdArguments {
    /// What is in it beside the agent and the files; the notation is that of the other commands
    #[arg(value_name = "IMAGE", required_unless_present = "agent")]
    pub(crate) image: Option<Reference>,

    #[command(flatten)]
    pub(crate) options: ImageOptions,

    /// Where the initrd is written
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// How the archive is compressed: none, lz4, gzip or zstd (which husk's own kernel does not unpack)
    #[arg(long, value_name = "KIND", default_value = Compression::DEFAULT_NAME)]
    pub(crate) compress: Compression,

    #[command(flatten)]
    pub(crate) additions: AdditionArguments,
}

/// Make what a recipe says: a root file system of an image or of Debian packages, with users, files and the agent, as any output
///
/// Paths in a recipe are relative to the directory that it is in. The documentation (docs/rootfs.md) has all its fields.
#[derive(Args)]
#[command(after_help = r#"Example:
  base = "oci:layout:latest"              # or: packages = { suite = "bookworm", include = ["openssh-server"] }
  agent = "husk-agent"
  users = [{ name = "app", uid = 1000 }]
  files = [{ destination = "/etc/motd", content = "hello\n" }]
  output = { kind = "erofs", path = "root.erofs", compress = "lz4", verity = true }"#)]
pub(crate) struct BuildArguments {
    /// The recipe, in TOML
    #[arg(value_name = "RECIPE.toml")]
    pub(crate) recipe: PathBuf,

    #[command(flatten)]
    pub(crate) options: ImageOptions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
