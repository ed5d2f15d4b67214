//! The cpio format `newc`, as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst): entries of
//! a header in hexadecimal, a name and content, each padded to four bytes. Only `output::initrd` calls this.

use std::io::{self, Write};

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
const HEADER_LEN: usize = 110;
const ALIGN: usize = 4;

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;

/// What one entry of an archive is; always owned by root and dated 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Directory { mode: u32 },
    File { mode: u32, content: &'a [u8] },
}

/// Writes an archive. Entries appear in the order in which they are added: parents before what is in them.
pub(crate) struct Writer<W> {
    sink: W,
    next_inode: u32,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self {
            sink,
            next_inode: 1,
        }
    }

    /// Adds one entry; `name` is relative to the root and has no leading slash.
    ///
    /// # Errors
    /// [`io::ErrorKind::FileTooLarge`] when the content has 4 GiB or more, which the format cannot express.
    pub(crate) fn add(&mut self, name: &str, entry: Entry<'_>) -> io::Result<()> {
        let inode = self.next_inode;
        self.next_inode += 1;
        match entry {
            Entry::Directory { mode } => self.write(name, inode, S_IFDIR | mode, 2, &[]),
            Entry::File { mode, content } => self.write(name, inode, S_IFREG | mode, 1, content),
        }
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.write(TRAILER, 0, 0, 1, &[])?;
        Ok(self.sink)
    }

    fn write(
        &mut self,
        name: &str,
        inode: u32,
        mode: u32,
        links: u32,
        content: &[u8],
    ) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let (uid, gid, mtime, device, checksum) = (0, 0, 0, 0, 0);
        let fields = [
            inode, mode, uid, gid, links, mtime, size, device, device, device, device, name_size,
            checksum,
        ];
        self.sink.write_all(MAGIC.as_bytes())?;
        for field in fields {
            write!(self.sink, "{field:08x}")?;
        }
        self.sink.write_all(name.as_bytes())?;
        self.sink.write_all(&[0])?;
        self.pad(HEADER_LEN + name.len() + 1)?;
        self.sink.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0; ALIGN];
        let count = written.next_multiple_of(ALIGN) - written;
        self.sink.write_all(&zeros[..count])
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.add("etc", Entry::Directory { mode: 0o755 }).unwrap();
        for length in 0..=5 {
            let content = vec![b'x'; length];
            let name = format!("etc/{}", "n".repeat(length + 1));
            writer
                .add(
                    &name,
                    Entry::File {
                        mode: 0o600,
                        content: &content,
                    },
                )
                .unwrap();
        }
        writer
            .add(
                "init",
                Entry::File {
                    mode: 0o755,
                    content: b"\x7fELF",
                },
            )
            .unwrap();
        writer.finish().unwrap()
    }

    /// Runs cpio on an archive; its absence is an error of the machine, not a reason to skip.
    fn cpio(archive: &[u8], arguments: &[&str]) -> String {
        let mut child = Command::new("cpio")
            .args(arguments)
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cpio is installed (Debian package cpio)");
        child.stdin.take().unwrap().write_all(archive).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn gnu_cpio_lists_the_same_names_in_the_same_order() {
        let names = cpio(&sample(), &["-it", "--quiet"]);
        assert_eq!(
            names,
            "etc\netc/n\netc/nn\netc/nnn\netc/nnnn\netc/nnnnn\netc/nnnnnn\ninit\n"
        );
    }

    #[test]
    fn gnu_cpio_sees_type_mode_owner_size_and_date() {
        let list = cpio(&sample(), &["-itv", "--quiet", "--numeric-uid-gid"]);
        let fields = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let lines: Vec<Vec<String>> = list.lines().map(fields).collect();
        assert_eq!(
            lines[0],
            ["drwxr-xr-x", "2", "0", "0", "0", "Jan", "1", "1970", "etc"]
        );
        assert_eq!(lines[5][..6], ["-rw-------", "1", "0", "0", "4", "Jan"]);
        assert_eq!(lines[7][..5], ["-rwxr-xr-x", "1", "0", "0", "4"]);
    }

    #[test]
    fn gnu_cpio_extracts_the_content() {
        assert_eq!(
            cpio(&sample(), &["-i", "--to-stdout", "--quiet", "etc/nnnn"]),
            "xxx"
        );
    }

    #[test]
    fn every_part_is_aligned() {
        let archive = sample();
        assert_eq!(archive.len() % ALIGN, 0);
        let starts = archive
            .windows(6)
            .enumerate()
            .filter(|(_, w)| *w == MAGIC.as_bytes());
        let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 9);
        assert!(starts.iter().all(|at| at % ALIGN == 0), "{starts:?}");
    }
}
