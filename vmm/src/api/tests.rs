//! The server over real sockets, with a machine that only notes what it is told.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use protocol::vmm_api::{Counters, VmInfo, VmState};

use super::server::MAX_CONNECTIONS;
use super::{Server, Target};
use crate::run::ControlError;

/// Notes calls.
#[derive(Default)]
pub(super) struct Mock {
    pub(super) calls: Vec<&'static str>,
    pub(super) refusal: Option<ControlError>,
}

impl Mock {
    fn note(&mut self, call: &'static str) -> Result<(), ControlError> {
        self.calls.push(call);
        self.refusal.take().map_or(Ok(()), Err)
    }
}

impl Target for Mock {
    fn info(&self) -> VmInfo {
        VmInfo {
            state: VmState::Paused,
            version: "1".to_owned(),
            pid: 7,
        }
    }
    fn counters(&self) -> Counters {
        Counters::default()
    }
    fn pause(&mut self) -> Result<(), ControlError> {
        self.note("pause")
    }
    fn resume(&mut self) -> Result<(), ControlError> {
        self.note("resume")
    }
    fn power_button(&mut self) -> Result<(), ControlError> {
        self.note("power-button")
    }
    fn kill(&mut self) -> Result<(), ControlError> {
        self.note("kill")
    }
}

struct Fixture {
    server: Server,
    target: Mock,
    path: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("husk-api-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        Self {
            server: Server::bind(path.clone()).unwrap(),
            target: Mock::default(),
            path,
        }
    }

    fn client(&self) -> UnixStream {
        let client = UnixStream::connect(&self.path).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    fn run(&mut self) {
        for _ in 0..20 {
            self.server.dispatch(&mut self.target).unwrap();
        }
    }

    /// What the server says to `request` on a connection of its own.
    fn ask(&mut self, request: &str) -> String {
        let mut client = self.client();
        client.write_all(request.as_bytes()).unwrap();
        self.run();
        read(&mut client)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

fn read(client: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    match client.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
        _ => String::from_utf8(bytes).unwrap(),
    }
}

#[test]
fn a_request_is_carried_out_and_answered() {
    let mut fixture = Fixture::new();
    let answer = fixture.ask("GET /vm HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body, r#"{"state":"paused","version":"1","pid":7}"#);
    let answer = fixture.ask("PUT /vm/pause HTTP/1.1\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 204 No Content\r\n"),
        "{answer}"
    );
    assert_eq!(fixture.target.calls, ["pause"]);
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let mut fixture = Fixture::new();
    let mut client = fixture.client();
    let requests = "PUT /vm/pause HTTP/1.1\r\n\r\nPUT /vm/resume HTTP/1.1\r\n\r\nPUT /vm/kill HTTP/1.1\r\n\r\n";
    for byte in requests.as_bytes() {
        client.write_all(&[*byte]).unwrap();
        fixture.server.dispatch(&mut fixture.target).unwrap();
    }
    fixture.run();
    assert_eq!(fixture.target.calls, ["pause", "resume", "kill"]);
    assert_eq!(read(&mut client).matches("204 No Content").count(), 3);
}

#[test]
fn what_is_malformed_is_answered_once_and_the_connection_ends() {
    let mut fixture = Fixture::new();
    let mut client = fixture.client();
    client
        .write_all(b"NONSENSE\r\n\r\nPUT /vm/kill HTTP/1.1\r\n\r\n")
        .unwrap();
    fixture.run();
    let mut answer = Vec::new();
    // The end of the stream, or a reset because of the bytes that nobody read: no wait for more.
    let end = client.read_to_end(&mut answer);
    assert!(!matches!(end, Err(error) if error.kind() == ErrorKind::WouldBlock));
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains(r#"{"error":"malformed request"#),
        "{answer}"
    );
    assert!(fixture.target.calls.is_empty());
}

#[test]
fn a_client_that_sends_without_end_or_reads_nothing_is_held_to_little() {
    let mut fixture = Fixture::new();
    let mut endless = fixture.client();
    let mut deaf = fixture.client();
    let request = b"GET /vm HTTP/1.1\r\n\r\n".repeat(100);
    let mut taken = 0;
    for _ in 0..200 {
        if let Ok(count) = endless.write(&[b'x'; 4096]) {
            taken += count;
        }
        while let Ok(count) = deaf.write(&request) {
            taken += count;
        }
        fixture.run();
    }
    // What the kernel holds for a unix socket, four times over.
    assert!(taken < 16 << 20, "{taken}");
    let answer = fixture.ask("GET /vm HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn silent_clients_do_not_keep_others_out() {
    let mut fixture = Fixture::new();
    let mut silent = Vec::new();
    for _ in 0..3 * MAX_CONNECTIONS {
        silent.push(fixture.client());
        fixture.run();
    }
    let answer = fixture.ask("GET /vm/counters HTTP/1.1\r\n\r\n");
    assert!(answer.ends_with(r#"{"exits":{},"devices":{}}"#), "{answer}");
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0);
    let last = silent.last_mut().unwrap().read(&mut [0]);
    assert_eq!(last.unwrap_err().kind(), ErrorKind::WouldBlock);
}
