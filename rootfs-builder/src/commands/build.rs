//! `husk-rootfs build`: what a recipe says.

use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use thiserror::Error;

use crate::cli::{BuildArguments, ImageOptions};
use crate::image::Reference;
use crate::output::bundle::Process;
use crate::recipe::{Origin, OutputKind, Packages, Recipe, RecipeError};

use super::disk::{Disk, FileSystem};
use super::source::{self, DATE, Read};
use super::{CommandError, bundle, disk, initrd, unpack};

/// Largest recipe.
const MAX_RECIPE: u64 = 1 << 20;
const MMDEBSTRAP: &str = "mmdebstrap";

/// Why a recipe comes to nothing.
#[derive(Debug, Error)]
pub(crate) enum BuildError {
    #[error("cannot read it")]
    Read(#[source] io::Error),
    #[error("it has more than {MAX_RECIPE} bytes")]
    Large,
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error("cannot run {MMDEBSTRAP} (Debian package {MMDEBSTRAP})")]
    Run(#[source] io::Error),
    #[error("{MMDEBSTRAP} failed: {0}")]
    Packages(String),
}

pub(super) fn run(arguments: &BuildArguments) -> Result<String, CommandError> {
    let failed = |source| CommandError::Recipe {
        path: arguments.recipe.clone(),
        source: Box::new(source),
    };
    let recipe = parse(&arguments.recipe).map_err(failed)?;
    let options = &arguments.options;
    let read = match &recipe.origin {
        Origin::Nothing => source::read(None, options)?,
        Origin::Image(image) => source::read(Some(image), options)?,
        Origin::Packages(packages) => {
            let (_installed, image) = install(packages, options).map_err(failed)?;
            source::read(Some(&image), options)?
        }
    };
    make(read, &recipe, options)
}

fn make(mut read: Read, recipe: &Recipe, options: &ImageOptions) -> Result<String, CommandError> {
    let (additions, path) = (&recipe.additions, recipe.output.path.as_path());
    let disk = |file_system, verity| Disk {
        file_system,
        verity,
        output: path,
    };
    match recipe.output.kind {
        OutputKind::Erofs { compress, verity } => disk::make(
            read,
            additions,
            &disk(FileSystem::Erofs { compress }, verity),
        ),
        OutputKind::Ext4 { free, verity } => {
            disk::make(read, additions, &disk(FileSystem::Ext4 { free }, verity))
        }
        OutputKind::Initrd { compress } => {
            initrd::make(read, additions, path, compress, &source::scratch(options))
        }
        OutputKind::Directory { rootless } => {
            read.add(additions)?;
            unpack::make(&read, path, rootless)
        }
        OutputKind::Bundle { rootless } => {
            read.add(additions)?;
            let process = Process {
                arguments: &[],
                terminal: false,
            };
            bundle::make(&read, path, &process, rootless)
        }
    }
}

fn parse(path: &Path) -> Result<Recipe, BuildError> {
    let mut text = String::new();
    let file = File::open(path).map_err(BuildError::Read)?;
    let read = file.take(MAX_RECIPE + 1).read_to_string(&mut text);
    read.map_err(BuildError::Read)?;
    if text.len() as u64 > MAX_RECIPE {
        return Err(BuildError::Large);
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok(Recipe::parse(&text, directory)?)
}

/// Installs packages into an archive, which is there as long as its directory is.
fn install(
    packages: &Packages,
    options: &ImageOptions,
) -> Result<(TempDir, Reference), BuildError> {
    let directory = tempfile::Builder::new()
        .prefix(".husk-rootfs-")
        .tempdir_in(source::scratch(options))
        .map_err(BuildError::Run)?;
    let archive: PathBuf = directory.path().join("packages.tar");
    let mut command = Command::new(MMDEBSTRAP);
    command
        .args(["--quiet", "--format=tar"])
        .arg(format!("--variant={}", packages.variant))
        .stdin(Stdio::null());
    if !packages.include.is_empty() {
        command.arg(format!("--include={}", packages.include.join(",")));
    }
    if env::var_os(DATE).is_none() {
        command.env(DATE, "0");
    }
    command
        .arg(&packages.suite)
        .arg(&archive)
        .args(&packages.mirrors);
    let output = command.output().map_err(BuildError::Run)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().rfind(|line| !line.trim().is_empty());
        return Err(BuildError::Packages(
            last.unwrap_or("it said nothing").to_owned(),
        ));
    }
    Ok((directory, Reference::tar(&archive)))
}
