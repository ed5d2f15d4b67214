//! As much of HTTP/1.1 as the API needs: heads within limits, no request bodies to speak of, JSON answers.

use httparse::{EMPTY_HEADER, Status};

/// Longest request line and headers together, in bytes.
pub(super) const MAX_HEAD: usize = 8 << 10;

/// Most headers of a request.
const MAX_HEADERS: usize = 32;

/// Longest body of a request, in bytes. No call has one, but `{}` does no harm.
pub(super) const MAX_BODY: usize = 1 << 10;

/// A request whose head and body are there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// The client may send another one on the same connection.
    pub(super) keep_alive: bool,
    /// Bytes of head and body.
    pub(super) len: usize,
}

/// Why a request is answered without being carried out. The connection ends, since nobody knows where the next request begins.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Not HTTP.
    #[error("malformed request: {0}")]
    Syntax(httparse::Error),
    /// The head is too long, or has too many headers.
    #[error("request head has more than {MAX_HEAD} bytes or {MAX_HEADERS} headers")]
    Head,
    /// The body's length is no number, or there are two.
    #[error("content-length is not one number")]
    Length,
    /// The body is too long.
    #[error("request body has more than {MAX_BODY} bytes")]
    Body,
    /// The body comes in an encoding.
    #[error("transfer-encoding is not served")]
    Encoding,
}

impl Malformed {
    /// Its status code.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Syntax(_) | Self::Length => 400,
            Self::Body => 413,
            Self::Head => 431,
            Self::Encoding => 501,
        }
    }
}

/// Reads the request that `input` begins with. `None`: there is more to come.
pub(super) fn parse(input: &[u8]) -> Result<Option<Request>, Malformed> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let head_len = match head.parse(input) {
        Ok(Status::Complete(len)) if len <= MAX_HEAD => len,
        Ok(Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Malformed::Head),
        Err(error) => return Err(Malformed::Syntax(error)),
    };
    let len = head_len + body_len(head.headers)?;
    if input.len() < len {
        return Ok(None);
    }
    Ok(Some(Request {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        keep_alive: head.version == Some(1) && !asks_to_close(head.headers),
        len,
    }))
}

fn body_len(headers: &[httparse::Header<'_>]) -> Result<usize, Malformed> {
    if find(headers, "transfer-encoding").next().is_some() {
        return Err(Malformed::Encoding);
    }
    let mut lengths = find(headers, "content-length");
    let Some(length) = lengths.next() else {
        return Ok(0);
    };
    let digits = std::str::from_utf8(length).map_err(|_| Malformed::Length)?;
    if lengths.next().is_some() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed::Length);
    }
    let length: u64 = digits.parse().map_err(|_| Malformed::Length)?;
    let length = usize::try_from(length).ok();
    length
        .filter(|length| *length <= MAX_BODY)
        .ok_or(Malformed::Body)
}

fn asks_to_close(headers: &[httparse::Header<'_>]) -> bool {
    find(headers, "connection").any(|value| value.eq_ignore_ascii_case(b"close"))
}

fn find<'a>(headers: &[httparse::Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let named = headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| header.value)
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    /// Value of `Allow`, for the methods a path has.
    pub(super) allow: Option<String>,
    /// JSON.
    pub(super) body: Option<Vec<u8>>,
}

impl Response {
    /// As it goes over the wire.
    pub(super) fn bytes(&self, keep_alive: bool) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nServer: husk-vmm\r\n",
            self.status,
            self.reason()
        );
        if let Some(methods) = &self.allow {
            head.push_str(&format!("Allow: {methods}\r\n"));
        }
        if let Some(body) = &self.body {
            let length = body.len();
            head.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {length}\r\n"
            ));
        }
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            204 => "No Content",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            413 => "Content Too Large",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_with_their_bodies() {
        let input = b"GET /vm HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}GET /next";
        let request = parse(input).unwrap().unwrap();
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("GET", "/vm")
        );
        assert!(request.keep_alive);
        assert_eq!(&input[request.len..], b"GET /next");
        for cut in 0..request.len {
            assert_eq!(parse(&input[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn who_does_not_keep_the_connection_is_known() {
        for (input, keep) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(
                parse(input.as_bytes()).unwrap().unwrap().keep_alive,
                keep,
                "{input}"
            );
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD));
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_HEADERS + 1)
        );
        let endless = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(MAX_HEAD));
        for (input, status) in [
            ("\0\0\0\0", 400),
            ("GET\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: \r\n\r\n", 400),
            (
                "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
                413,
            ),
            ("GET / HTTP/1.1\r\nContent-Length: 1025\r\n\r\n", 413),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
            (&long, 431),
            (&many, 431),
            (&endless, 431),
        ] {
            let shown = &input[..input.len().min(60)];
            assert_eq!(
                parse(input.as_bytes()).unwrap_err().status(),
                status,
                "{shown:?}"
            );
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let response = Response {
            status: 405,
            allow: Some("GET".to_owned()),
            body: Some(b"{}".to_vec()),
        };
        let text = String::from_utf8(response.bytes(false)).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 405 Method Not Allowed\r\nServer: husk-vmm\r\nAllow: GET\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        );
    }
}
