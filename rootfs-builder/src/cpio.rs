//! The cpio format `newc`, as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst): entries of
//! a header in hexadecimal, a name and content, each padded to four bytes. Only `output::initrd` calls this.

use std::io::{self, Write};

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
const HEADER_LEN: usize = 110;
const ALIGN: usize = 4;

/// What one entry of an archive is, but for its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The same for all names of one file.
    pub(crate) inode: u32,
    /// Type and permissions.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    /// Seconds since 1970.
    pub(crate) mtime: u32,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) size: u32,
}

/// Writes an archive. Entries appear in the order in which they are added: parents before what is in them.
pub(crate) struct Writer<W> {
    sink: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self { sink }
    }

    /// Adds one entry; `name` is relative to the root and has no leading slash. `content` writes what the entry says the size of.
    pub(crate) fn add(
        &mut self,
        name: &[u8],
        entry: &Entry,
        content: impl FnOnce(&mut Content<'_, W>) -> io::Result<()>,
    ) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let (device, checksum) = ((0, 0), 0);
        let fields = [
            entry.inode,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.links,
            entry.mtime,
            entry.size,
            device.0,
            device.1,
            entry.device.0,
            entry.device.1,
            name_size,
            checksum,
        ];
        self.sink.write_all(MAGIC.as_bytes())?;
        for field in fields {
            write!(self.sink, "{field:08x}")?;
        }
        self.sink.write_all(name)?;
        self.sink.write_all(&[0])?;
        self.pad(HEADER_LEN + name.len() + 1)?;
        let mut body = Content {
            sink: &mut self.sink,
            left: entry.size,
        };
        content(&mut body)?;
        if body.left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(usize::try_from(entry.size).map_err(too_large)?)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let end = Entry {
            links: 1,
            ..Entry::default()
        };
        self.add(TRAILER.as_bytes(), &end, |_| Ok(()))?;
        Ok(self.sink)
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0; ALIGN];
        let count = written.next_multiple_of(ALIGN) - written;
        self.sink.write_all(&zeros[..count])
    }
}

/// Takes the content of one entry, as many bytes as the entry says and no more.
pub(crate) struct Content<'a, W> {
    sink: &'a mut W,
    left: u32,
}

impl<W: Write> Content<'_, W> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = u32::try_from(bytes.len())
            .ok()
            .and_then(|length| self.left.checked_sub(length));
        self.left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        self.sink.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn file(name: &str, mode: u32, content: &[u8], writer: &mut Writer<Vec<u8>>) {
        let entry = Entry {
            mode: 0o100_000 | mode,
            links: 1,
            size: u32::try_from(content.len()).unwrap(),
            ..Entry::default()
        };
        writer
            .add(name.as_bytes(), &entry, |body| body.write(content))
            .unwrap();
    }

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        let directory = Entry {
            mode: 0o040_755,
            links: 2,
            ..Entry::default()
        };
        writer.add(b"etc", &directory, |_| Ok(())).unwrap();
        for length in 0..=5 {
            let name = format!("etc/{}", "n".repeat(length + 1));
            file(&name, 0o600, &vec![b'x'; length], &mut writer);
        }
        file("init", 0o755, b"\x7fELF", &mut writer);
        writer.finish().unwrap()
    }

    #[test]
    fn content_has_the_length_that_its_entry_says() {
        let entry = Entry {
            size: 3,
            ..Entry::default()
        };
        for content in ["ab", "abcd"] {
            let mut writer = Writer::new(Vec::new());
            let added = writer.add(b"x", &entry, |body| body.write(content.as_bytes()));
            assert!(added.is_err(), "{content}");
        }
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
