//! Adds a user to the files of an image.

use thiserror::Error;

use crate::contents::Contents;
use crate::tar;
use crate::tree::{Attributes, Kind, PutError, Tree};

use super::{GROUP, PASSWD, UserError, lookup, read_bytes};

const SHADOW: &str = "etc/shadow";
/// Mode of a file of users that the image does not have, and of a home.
const FILE_MODE: u32 = 0o644;
const HOME_MODE: u32 = 0o700;
/// Longest name of a user (shadow-utils).
const MAX_NAME: usize = 32;

/// A user to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
    pub(crate) shell: String,
    /// Groups of the image that the user is in, too.
    pub(crate) groups: Vec<String>,
}

/// Why a user cannot be added.
#[derive(Debug, Error)]
pub(crate) enum AddError {
    #[error(transparent)]
    Read(#[from] UserError),
    #[error("/{0} of the image is not text")]
    Text(&'static str),
    #[error(
        "user {0:?}: a name is at most {MAX_NAME} lower-case letters, digits, '-' and '_', first a letter or '_'"
    )]
    Name(String),
    #[error("user {user}: {what} {value:?} is not an absolute path without ':' and line ends")]
    Field {
        user: String,
        what: &'static str,
        value: String,
    },
    #[error("user {user}: /{file} has {found:?} already")]
    Exists {
        user: String,
        file: &'static str,
        found: String,
    },
    #[error("user {user}: /{GROUP} has no group {group:?}")]
    NoGroup { user: String, group: String },
    #[error("user {user}: the home")]
    Home { user: String, source: PutError },
    #[error("user {user}: cannot write /{file}")]
    Put {
        user: String,
        file: &'static str,
        source: PutError,
    },
}

type Result<T> = std::result::Result<T, AddError>;

impl Account {
    /// Adds the user, a group of its own where its group has no name, and a home. No password opens the account.
    pub(crate) fn add(&self, tree: &mut Tree, contents: &mut Contents, time: i64) -> Result<()> {
        self.check()?;
        let passwd = text(tree, contents, PASSWD)?;
        let uid = self.uid.to_string();
        for known in [&self.name, &uid] {
            if lookup(&passwd, known).is_some() {
                return Err(self.exists(PASSWD, known));
            }
        }
        let groups = self.groups(&text(tree, contents, GROUP)?)?;
        let line = format!(
            "{}:x:{uid}:{}::{}:{}\n",
            self.name, self.gid, self.home, self.shell
        );
        self.write(tree, contents, (PASSWD, &(passwd + &line)), time)?;
        self.write(tree, contents, (GROUP, &groups), time)?;
        // Where there is none, nobody looks for it.
        if tree.find(SHADOW.as_bytes()).is_some() {
            let shadow = text(tree, contents, SHADOW)? + &format!("{}:*:::::::\n", self.name);
            self.write(tree, contents, (SHADOW, &shadow), time)?;
        }
        let home = Attributes {
            mode: HOME_MODE,
            uid: self.uid,
            gid: self.gid,
            mtime: (time, 0),
            ..Attributes::default()
        };
        let made = tree.put_directory(&self.home, home);
        made.map(drop).map_err(|source| AddError::Home {
            user: self.name.clone(),
            source,
        })
    }

    fn check(&self) -> Result<()> {
        let bytes = self.name.as_bytes();
        let first = bytes
            .first()
            .is_some_and(|byte| byte.is_ascii_lowercase() || *byte == b'_');
        let rest = bytes.iter().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
        });
        if !first || !rest || bytes.len() > MAX_NAME {
            return Err(AddError::Name(self.name.clone()));
        }
        for (what, value) in [("home", &self.home), ("shell", &self.shell)] {
            if !value.starts_with('/') || value.contains([':', '\n', '\r', '\0']) {
                return Err(AddError::Field {
                    user: self.name.clone(),
                    what,
                    value: value.clone(),
                });
            }
        }
        Ok(())
    }

    fn exists(&self, file: &'static str, found: &str) -> AddError {
        AddError::Exists {
            user: self.name.clone(),
            file,
            found: found.to_owned(),
        }
    }

    /// The file of groups with the user in it.
    fn groups(&self, file: &str) -> Result<String> {
        let gid = self.gid.to_string();
        let named = lookup(file, &self.name).filter(|fields| fields[0] == self.name);
        let numbered = file
            .lines()
            .any(|line| line.split(':').nth(2) == Some(&gid));
        if named.is_some_and(|fields| fields.get(2) != Some(&&*gid)) {
            return Err(self.exists(GROUP, &self.name));
        }
        for group in &self.groups {
            if !file
                .lines()
                .any(|line| line.split(':').next() == Some(group))
            {
                return Err(AddError::NoGroup {
                    user: self.name.clone(),
                    group: group.clone(),
                });
            }
        }
        let mut text = String::new();
        for line in file.lines() {
            text.push_str(line);
            let mut fields = line.split(':');
            if fields
                .next()
                .is_some_and(|name| self.groups.iter().any(|group| group == name))
            {
                let alone = fields.nth(2).is_none_or(str::is_empty);
                text.push_str(if alone { "" } else { "," });
                text.push_str(&self.name);
            }
            text.push('\n');
        }
        if !numbered {
            text.push_str(&format!("{}:x:{gid}:\n", self.name));
        }
        Ok(text)
    }

    /// Gives a file this text; it keeps its owner and its mode, or gets root and those of its kind.
    fn write(
        &self,
        tree: &mut Tree,
        contents: &mut Contents,
        (file, text): (&'static str, &str),
        time: i64,
    ) -> Result<()> {
        let map = tar::Contents::whole(text.len() as u64);
        let kind = Kind::File(contents.add(text.as_bytes().to_vec()), map);
        if let Some(node) = tree.find(file.as_bytes()) {
            tree.rewrite(node, kind, time);
            return Ok(());
        }
        let attributes = Attributes {
            mode: FILE_MODE,
            mtime: (time, 0),
            ..Attributes::default()
        };
        let put = tree.put(&format!("/{file}"), kind, attributes);
        put.map(drop).map_err(|source| AddError::Put {
            user: self.name.clone(),
            file,
            source,
        })
    }
}

/// A file of the image, which must be text, with an end to its last line.
fn text(tree: &Tree, contents: &Contents, file: &'static str) -> Result<String> {
    let bytes = read_bytes(tree, contents, file)?;
    let mut text = String::from_utf8(bytes).map_err(|_| AddError::Text(file))?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Account {
        Account {
            name: "app".into(),
            uid: 1000,
            gid: 1000,
            home: "/home/app".into(),
            shell: "/bin/sh".into(),
            groups: Vec::new(),
        }
    }

    fn image(files: &[(&str, &str)]) -> (Tree, Contents) {
        let (mut tree, mut contents) = (Tree::new(0), Contents::of_layers(Vec::new()));
        for (name, text) in files {
            let source = contents.add(text.as_bytes().to_vec());
            let kind = Kind::File(source, tar::Contents::whole(text.len() as u64));
            let attributes = Attributes {
                mode: 0o640,
                ..Attributes::default()
            };
            tree.put(name, kind, attributes).unwrap();
        }
        (tree, contents)
    }

    fn added(account: &Account, files: &[(&str, &str)]) -> Result<[String; 3]> {
        let (mut tree, mut contents) = image(files);
        account.add(&mut tree, &mut contents, 7)?;
        let home = tree.node(tree.find(b"home/app").unwrap());
        assert_eq!((home.attributes.mode, home.attributes.uid), (0o700, 1000));
        Ok([PASSWD, GROUP, SHADOW].map(|file| text(&tree, &contents, file).unwrap()))
    }

    #[test]
    fn an_image_without_users_gets_its_first() {
        let expected = ["app:x:1000:1000::/home/app:/bin/sh\n", "app:x:1000:\n", ""];
        assert_eq!(added(&user(), &[]).unwrap(), expected);
    }

    #[test]
    fn files_are_added_to_and_keep_their_mode() {
        let files = [
            ("/etc/passwd", "root:x:0:0::/:/bin/sh"),
            ("/etc/group", "root:x:0:\nvideo:x:44:\naudio:x:29:x\n"),
            ("/etc/shadow", "root:*:::::::\n"),
        ];
        let mut user = user();
        user.groups = vec!["video".into(), "audio".into()];
        let found = added(&user, &files).unwrap();
        assert_eq!(
            found[0],
            "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
        );
        assert_eq!(
            found[1],
            "root:x:0:\nvideo:x:44:app\naudio:x:29:x,app\napp:x:1000:\n"
        );
        assert_eq!(found[2], "root:*:::::::\napp:*:::::::\n");
        let (mut tree, mut contents) = image(&files);
        user.add(&mut tree, &mut contents, 7).unwrap();
        let shadow = &tree.node(tree.find(b"etc/shadow").unwrap()).attributes;
        assert_eq!((shadow.mode, shadow.mtime), (0o640, (7, 0)));
    }

    #[test]
    fn who_cannot_be_added_is_refused() {
        let files = [
            (
                "/etc/passwd",
                "root:x:0:0::/:/bin/sh\nother:x:1001:1::/:/\n",
            ),
            ("/etc/group", "taken:x:5:\n"),
        ];
        let refusal = |change: &dyn Fn(&mut Account)| {
            let mut user = user();
            change(&mut user);
            added(&user, &files).unwrap_err().to_string()
        };
        assert!(refusal(&|user| user.name = "root".into()).ends_with("has \"root\" already"));
        assert!(refusal(&|user| user.uid = 1001).ends_with("has \"1001\" already"));
        assert!(refusal(&|user| user.name = "taken".into()).contains("/etc/group has \"taken\""));
        assert!(refusal(&|user| user.groups = vec!["no".into()]).ends_with("no group \"no\""));
        for name in ["", "A", "1a", "a:b", "a\nb", &"a".repeat(33)] {
            assert!(
                refusal(&|user| user.name = name.into()).contains("a name is"),
                "{name:?}"
            );
        }
        for home in ["", "home", "/a:b", "/a\n/b"] {
            assert!(
                refusal(&|user| user.home = home.into()).contains("home"),
                "{home:?}"
            );
            assert!(
                refusal(&|user| user.shell = home.into()).contains("shell"),
                "{home:?}"
            );
        }
        assert!(refusal(&|user| user.home = "/etc/passwd".into()).contains("the home"));
    }
}
