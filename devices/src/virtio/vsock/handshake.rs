//! What a client on the host says first: `CONNECT <port>\n`, as Firecracker's and Cloud Hypervisor's clients do.

use super::limits::MAX_LINE;

/// A line that grows, at most [`MAX_LINE`] bytes.
#[derive(Debug, Default)]
pub(super) struct Line {
    bytes: [u8; MAX_LINE],
    len: usize,
}

/// What has been read of the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    Partial,
    /// The client wants this port of the guest.
    Port(u32),
    /// It says something else.
    Refused,
}

impl Line {
    /// How many bytes of `input` belong to the line: what follows it belongs to the connection and must not be read yet.
    pub(super) fn wanted(&self, input: &[u8]) -> usize {
        let to_newline = input.iter().position(|byte| *byte == b'\n');
        let count = to_newline.map_or(input.len(), |at| at.saturating_add(1));
        count.min(MAX_LINE.saturating_sub(self.len))
    }

    /// Appends what [`Self::wanted`] named.
    pub(super) fn push(&mut self, input: &[u8]) -> Progress {
        for byte in input {
            let Some(place) = self.bytes.get_mut(self.len) else {
                return Progress::Refused;
            };
            *place = *byte;
            self.len = self.len.saturating_add(1);
        }
        let line = self.bytes.get(..self.len).unwrap_or_default();
        match line.strip_suffix(b"\n") {
            Some(line) => parse(line).map_or(Progress::Refused, Progress::Port),
            None if self.len == MAX_LINE => Progress::Refused,
            None => Progress::Partial,
        }
    }
}

fn parse(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(b"CONNECT ")?;
    let plain = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| plain)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(line: &mut Line, mut input: &[u8]) -> (Progress, usize) {
        let mut taken = 0;
        loop {
            let count = line.wanted(input);
            let progress = line.push(&input[..count]);
            taken += count;
            input = &input[count..];
            if progress != Progress::Partial || input.is_empty() {
                return (progress, taken);
            }
        }
    }

    #[test]
    fn only_the_exact_line_is_taken() {
        let cases: &[(&[u8], Progress)] = &[
            (b"CONNECT 1024\n", Progress::Port(1024)),
            (b"CONNECT 0\n", Progress::Port(0)),
            (b"CONNECT 4294967295\n", Progress::Port(u32::MAX)),
            (b"CONNECT 0000000000000000000001\n", Progress::Port(1)),
            (b"CONNECT 4294967296\n", Progress::Refused),
            (b"CONNECT 000000000000000000000001\n", Progress::Refused),
            (b"CONNECT -1\n", Progress::Refused),
            (b"CONNECT +1\n", Progress::Refused),
            (b"CONNECT \n", Progress::Refused),
            (b"CONNECT 1 \n", Progress::Refused),
            (b"CONNECT 1\r\n", Progress::Refused),
            (b"CONNECT  1\n", Progress::Refused),
            (b"connect 1\n", Progress::Refused),
            (b"\n", Progress::Refused),
            (b"\xff\xfe\n", Progress::Refused),
            (b"CONNECT \xd9\xa1\n", Progress::Refused),
            (b"CONNECT 1024", Progress::Partial),
            (b"", Progress::Partial),
            (&[b'x'; 100], Progress::Refused),
        ];
        for (input, expected) in cases {
            let (progress, taken) = feed(&mut Line::default(), input);
            assert_eq!(progress, *expected, "{}", input.escape_ascii());
            assert!(taken <= MAX_LINE);
        }
    }

    #[test]
    fn bytes_may_come_one_by_one_and_what_follows_is_left() {
        let mut line = Line::default();
        for byte in b"CONNECT 77" {
            assert_eq!(line.wanted(&[*byte]), 1);
            assert_eq!(line.push(&[*byte]), Progress::Partial);
        }
        assert_eq!(line.wanted(b"\nGET / HTTP/1.1"), 1);
        assert_eq!(line.push(b"\n"), Progress::Port(77));
    }
}
