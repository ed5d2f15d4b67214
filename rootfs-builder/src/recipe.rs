//! Recipes: what a root file system is made of and what becomes of it, in TOML. A recipe says the same as the other commands do, and
//! what would be unwieldy there.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::accounts::Account;
use crate::additions::{Addition, Additions, What};
use crate::cli::parse_mode;
use crate::compression::{Compression, UnknownCompression};
use crate::image::{Reference, ReferenceError};
use crate::limits::parse_size;

const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
const DEFAULT_SHELL: &str = "/bin/sh";
const DEFAULT_VARIANT: &str = "minbase";
const DEFAULT_FREE: &str = "64M";

/// What is wrong with a recipe.
#[derive(Debug, Error)]
pub(crate) enum RecipeError {
    /// Says the line, and shows it.
    #[error("{0}")]
    Toml(Box<toml::de::Error>),
    #[error("a root file system has one origin: base or packages")]
    TwoOrigins,
    #[error("base")]
    Base(#[source] ReferenceError),
    #[error("packages: {what} {text:?} is none")]
    Packages { what: &'static str, text: String },
    #[error("files: {0} is one of source, content, link and directory")]
    What(String),
    #[error("files: the mode {mode:?} of {name}")]
    Mode { name: String, mode: String },
    #[error("output: {0}")]
    Size(String),
    #[error("output")]
    Compression(#[source] UnknownCompression),
}

type Result<T> = std::result::Result<T, RecipeError>;

/// A recipe, checked.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) origin: Origin,
    pub(crate) additions: Additions,
    pub(crate) output: Output,
}

/// What a root file system begins with.
#[derive(Debug)]
pub(crate) enum Origin {
    Nothing,
    Image(Reference),
    Packages(Packages),
}

/// Packages of Debian, which mmdebstrap installs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Packages {
    pub(crate) suite: String,
    #[serde(default)]
    pub(crate) include: Vec<String>,
    #[serde(default = "default_variant")]
    pub(crate) variant: String,
    #[serde(default)]
    pub(crate) mirrors: Vec<String>,
}

fn default_variant() -> String {
    DEFAULT_VARIANT.to_owned()
}

/// What is made.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) path: PathBuf,
    pub(crate) kind: OutputKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutputKind {
    Erofs { compress: bool, verity: bool },
    Ext4 { free: u64, verity: bool },
    Initrd { compress: Compression },
    Directory { rootless: bool },
    Bundle { rootless: bool },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    base: Option<String>,
    packages: Option<Packages>,
    agent: Option<PathBuf>,
    #[serde(default)]
    users: Vec<UserText>,
    #[serde(default)]
    files: Vec<FileText>,
    output: OutputText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserText {
    name: String,
    uid: u32,
    gid: Option<u32>,
    home: Option<String>,
    shell: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    destination: String,
    source: Option<PathBuf>,
    content: Option<String>,
    link: Option<String>,
    #[serde(default)]
    directory: bool,
    mode: Option<String>,
    #[serde(default)]
    owner: String,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum OutputText {
    Erofs {
        path: PathBuf,
        compress: Option<ErofsCompression>,
        #[serde(default)]
        verity: bool,
    },
    Ext4 {
        path: PathBuf,
        free: Option<String>,
        #[serde(default)]
        verity: bool,
    },
    Initrd {
        path: PathBuf,
        compress: Option<String>,
    },
    Directory {
        path: PathBuf,
        #[serde(default)]
        rootless: bool,
    },
    Bundle {
        path: PathBuf,
        #[serde(default)]
        rootless: bool,
    },
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum ErofsCompression {
    None,
    Lz4,
}

impl Recipe {
    /// Understands a recipe, whose paths are relative to `directory`.
    pub(crate) fn parse(text: &str, directory: &Path) -> Result<Self> {
        let text: Text =
            toml::from_str(text).map_err(|error| RecipeError::Toml(Box::new(error)))?;
        let origin = match (text.base, text.packages) {
            (None, None) => Origin::Nothing,
            (Some(base), None) => {
                let base: Reference = base.parse().map_err(RecipeError::Base)?;
                Origin::Image(base.below(directory))
            }
            (None, Some(packages)) => Origin::Packages(packages.checked()?),
            (Some(_), Some(_)) => return Err(RecipeError::TwoOrigins),
        };
        let files = text.files.into_iter().map(|file| file.checked(directory));
        let additions = Additions {
            users: text.users.into_iter().map(UserText::account).collect(),
            agent: text.agent.map(|agent| directory.join(agent)),
            files: files.collect::<Result<_>>()?,
        };
        Ok(Self {
            origin,
            additions,
            output: text.output.checked(directory)?,
        })
    }
}

impl Packages {
    /// Nothing that mmdebstrap or apt would take for something else.
    fn checked(self) -> Result<Self> {
        let name = |text: &str, more: &[u8]| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
            text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(known)
        };
        let bad = |what, text: &String| RecipeError::Packages {
            what,
            text: text.clone(),
        };
        if !name(&self.suite, b"-._/") {
            return Err(bad("suite", &self.suite));
        }
        if !name(&self.variant, b"-") {
            return Err(bad("variant", &self.variant));
        }
        if let Some(package) = self
            .include
            .iter()
            .find(|package| !name(package, b"-+.:=~"))
        {
            return Err(bad("package", package));
        }
        let web = |mirror: &&String| {
            let schemes = ["http://", "https://", "file:///"];
            schemes.iter().any(|scheme| mirror.starts_with(scheme))
                && !mirror.contains(|char: char| char.is_whitespace() || char.is_control())
        };
        match self.mirrors.iter().find(|mirror| !web(mirror)) {
            Some(mirror) => Err(bad("mirror", mirror)),
            None => Ok(self),
        }
    }
}

impl UserText {
    fn account(self) -> Account {
        let home = self.home.unwrap_or_else(|| format!("/home/{}", self.name));
        Account {
            uid: self.uid,
            gid: self.gid.unwrap_or(self.uid),
            home,
            shell: self.shell.unwrap_or_else(|| DEFAULT_SHELL.to_owned()),
            groups: self.groups,
            name: self.name,
        }
    }
}

impl FileText {
    fn checked(self, directory: &Path) -> Result<Addition> {
        let what = match (self.source, self.content, self.link, self.directory) {
            (Some(source), None, None, false) => What::File(directory.join(source)),
            (None, Some(content), None, false) => What::Text(content),
            (None, None, Some(link), false) => What::Symlink(link),
            (None, None, None, true) => What::Directory,
            _ => return Err(RecipeError::What(self.destination)),
        };
        let mode = match self.mode {
            Some(mode) => parse_mode(&mode).map_err(|_| RecipeError::Mode {
                name: self.destination.clone(),
                mode,
            })?,
            None if what == What::Directory => DIRECTORY_MODE,
            None => FILE_MODE,
        };
        Ok(Addition {
            destination: self.destination,
            what,
            mode,
            owner: self.owner,
        })
    }
}

impl OutputText {
    fn checked(self, directory: &Path) -> Result<Output> {
        let (path, kind) = match self {
            Self::Erofs {
                path,
                compress,
                verity,
            } => {
                let compress = compress == Some(ErofsCompression::Lz4);
                (path, OutputKind::Erofs { compress, verity })
            }
            Self::Ext4 { path, free, verity } => {
                let default = if verity { "0" } else { DEFAULT_FREE };
                let free = parse_size(free.as_deref().unwrap_or(default));
                let free = free.map_err(RecipeError::Size)?;
                (path, OutputKind::Ext4 { free, verity })
            }
            Self::Initrd { path, compress } => {
                let compress = compress.as_deref().unwrap_or(Compression::DEFAULT_NAME);
                let compress = compress.parse().map_err(RecipeError::Compression)?;
                (path, OutputKind::Initrd { compress })
            }
            Self::Directory { path, rootless } => (path, OutputKind::Directory { rootless }),
            Self::Bundle { path, rootless } => (path, OutputKind::Bundle { rootless }),
        };
        Ok(Output {
            path: directory.join(path),
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Recipe> {
        Recipe::parse(text, Path::new("/recipes"))
    }

    /// An error and its cause.
    fn told(text: &str) -> String {
        let error = parse(text).unwrap_err();
        let cause = std::error::Error::source(&error);
        let cause = cause.map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    }

    const OUTPUT: &str = "[output]\nkind = \"initrd\"\npath = \"x\"\n";

    #[test]
    fn a_recipe_has_defaults_and_its_own_directory() {
        let recipe = parse(
            r#"
            base = "oci:layout"
            agent = "husk-agent"
            users = [{ name = "app", uid = 1000 }]
            files = [
                { destination = "/a", source = "a" },
                { destination = "/b", content = "b", mode = "4755", owner = "app" },
                { destination = "/c", directory = true },
                { destination = "/d", link = "c" },
            ]
            output = { kind = "ext4", path = "root.ext4", verity = true }
            "#,
        )
        .unwrap();
        let Origin::Image(base) = recipe.origin else {
            panic!("another origin");
        };
        let expected: Reference = "oci:/recipes/layout".parse().unwrap();
        assert_eq!(base.transport, expected.transport);
        assert_eq!(recipe.output.path, Path::new("/recipes/root.ext4"));
        let (free, verity) = (0, true);
        assert_eq!(recipe.output.kind, OutputKind::Ext4 { free, verity });
        let additions = recipe.additions;
        assert_eq!(additions.agent.unwrap(), Path::new("/recipes/husk-agent"));
        assert_eq!(
            (additions.users[0].gid, &*additions.users[0].home),
            (1000, "/home/app")
        );
        let modes: Vec<u32> = additions.files.iter().map(|file| file.mode).collect();
        assert_eq!(modes, [0o644, 0o4755, 0o755, 0o644]);
        assert_eq!(additions.files[0].what, What::File("/recipes/a".into()));
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        for (text, words) in [
            ("", "missing field `output`"),
            ("x = 1", "TOML parse error at line 1, column 1"),
            (
                "output = {kind = \"zip\", path = \"x\"}",
                "unknown variant `zip`",
            ),
            (
                "output = {kind = \"initrd\", path = \"x\", verity = true}",
                "unknown field `verity`",
            ),
            (
                "output = {kind = \"initrd\", path = \"x\", compress = \"xz\"}",
                "compression 'xz'",
            ),
            (
                "output = {kind = \"ext4\", path = \"x\", free = \"1X\"}",
                "'1X' is not a number",
            ),
        ] {
            let error = told(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, words) in [
            ("base = \"oci:a\"\npackages = {suite = \"b\"}", "one origin"),
            (
                "base = \"alpine\"",
                "base: image 'alpine' begins with none of",
            ),
            ("files = [{destination = \"/a\"}]", "/a is one of source"),
            (
                "files = [{destination = \"/a\", link = \"b\", content = \"\"}]",
                "/a is one of source",
            ),
            (
                "files = [{destination = \"/a\", content = \"\", mode = \"9\"}]",
                "the mode \"9\" of /a",
            ),
            ("packages = {suite = \"--help\"}", "suite \"--help\""),
            (
                "packages = {suite = \"b\", variant = \"a,b\"}",
                "variant \"a,b\"",
            ),
            (
                "packages = {suite = \"b\", include = [\"a,b\"]}",
                "package \"a,b\"",
            ),
            (
                "packages = {suite = \"b\", include = [\"?essential\"]}",
                "package",
            ),
            (
                "packages = {suite = \"b\", mirrors = [\"deb x\"]}",
                "mirror \"deb x\"",
            ),
            (
                "packages = {suite = \"b\", mirrors = [\"http://x y\"]}",
                "mirror",
            ),
        ] {
            let error = told(&format!("{text}\n{OUTPUT}"));
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
