//! Console with one port (virtio 1.2, 5.3): what the guest writes goes to a descriptor, what comes from another goes to the
//! guest.
//!
//! Nothing is buffered here. While the output takes no more, the guest's request waits in its queue; while the guest has no
//! buffer, the input is not read. Neither descriptor is made non-blocking, for both may be shared with other processes: they
//! are only used when they are ready.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::device::{Activation, DeviceType, NeedsReset, VirtioDevice};
use super::queue::{Chain, QueueError, RequestQueue};
use crate::event_loop::{Interest, Poller, Readiness};

const NAME: &str = "console";
/// Queues: to the guest, from the guest.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const QUEUE_SIZES: [u16; 2] = [64, 64];
/// Bytes moved at once; a pipe that is ready takes as many without blocking (`PIPE_BUF`).
const BLOCK: usize = 4096;
/// Most bytes written before other devices get their turn.
const MAX_TURN: usize = 64 * 1024;
/// Feature: the configuration has the window size.
const F_SIZE: u64 = 1 << 0;

const INPUT: u64 = 0;
const OUTPUT: u64 = 1;

/// Size of the terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// The device.
pub struct Console {
    output: OwnedFd,
    /// `None` once it has ended.
    input: Option<OwnedFd>,
    size: Option<WindowSize>,
    /// Watches the input while the guest has buffers, and the output while it is full.
    poller: Poller,
    input_watched: bool,
    output_watched: bool,
    receive: Option<RequestQueue>,
    transmit: Option<RequestQueue>,
    /// A request that is written up to this byte.
    pending: Option<(Chain, u64)>,
    written: u64,
    read: u64,
    lost: u64,
}

/// Whether a transfer can go on.
enum Progress {
    Done,
    Stalled,
}

impl Console {
    /// A console that writes to `output` and reads from `input`. An input that cannot be waited for, such as a file, is ignored.
    pub fn new(
        output: OwnedFd,
        input: Option<OwnedFd>,
        size: Option<WindowSize>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let waits = |input: &OwnedFd| poller.add(input.as_raw_fd(), INPUT, Interest::READ).is_ok();
        let input = input.filter(waits);
        if let Some(input) = &input {
            poller.remove(input.as_raw_fd())?;
        }
        Ok(Self {
            output,
            input,
            size,
            poller,
            input_watched: false,
            output_watched: false,
            receive: None,
            transmit: None,
            pending: None,
            written: 0,
            read: 0,
            lost: 0,
        })
    }

    fn watch_input(&mut self, wanted: bool) -> io::Result<()> {
        let Some(input) = &self.input else {
            return Ok(());
        };
        match (self.input_watched, wanted) {
            (false, true) => self.poller.add(input.as_raw_fd(), INPUT, Interest::READ)?,
            (true, false) => self.poller.remove(input.as_raw_fd())?,
            _ => {}
        }
        self.input_watched = wanted;
        Ok(())
    }

    fn watch_output(&mut self, wanted: bool) -> io::Result<()> {
        let output = self.output.as_raw_fd();
        match (self.output_watched, wanted) {
            (false, true) => self.poller.add(output, OUTPUT, Interest::WRITE)?,
            (true, false) => self.poller.remove(output)?,
            _ => {}
        }
        self.output_watched = wanted;
        Ok(())
    }

    /// Writes what the guest has, until there is no more or the output is full.
    fn serve_transmit(&mut self) -> Result<(), QueueError> {
        let Some(mut queue) = self.transmit.take() else {
            return Ok(());
        };
        let outcome = self.write_requests(&mut queue);
        self.transmit = Some(queue);
        outcome
    }

    fn write_requests(&mut self, queue: &mut RequestQueue) -> Result<(), QueueError> {
        let mut budget = MAX_TURN;
        loop {
            let (chain, mut offset) = match self.pending.take() {
                Some(pending) => pending,
                None => match queue.pop()? {
                    Some(chain) => (chain, 0),
                    None => break,
                },
            };
            match self.write_chain(&chain, &mut offset, &mut budget)? {
                Progress::Done => queue.complete(chain.head(), 0)?,
                Progress::Stalled => {
                    self.pending = Some((chain, offset));
                    if budget == 0 {
                        queue.kick().write(1).map_err(QueueError::Interrupt)?;
                    }
                    break;
                }
            }
        }
        let full = self.pending.is_some() && budget > 0;
        self.watch_output(full).map_err(QueueError::Interrupt)?;
        queue.notify()
    }

    fn write_chain(
        &mut self,
        chain: &Chain,
        offset: &mut u64,
        budget: &mut usize,
    ) -> Result<Progress, QueueError> {
        while *offset < chain.readable_len() {
            if *budget == 0 || !is_writable(&self.output) {
                return Ok(Progress::Stalled);
            }
            let mut block = [0; BLOCK];
            let room = block.get_mut(..BLOCK.min(*budget)).unwrap_or_default();
            let count = chain.read_at(*offset, room)?;
            let data = room.get(..count).unwrap_or_default();
            let moved = match rustix::io::write(&self.output, data) {
                Ok(moved) => {
                    self.written = self.written.saturating_add(moved as u64);
                    moved
                }
                Err(Errno::INTR) => 0,
                Err(Errno::AGAIN) => return Ok(Progress::Stalled),
                // Nobody reads any more, or the disk is full. The guest cannot be told: it loses these.
                Err(_) => {
                    self.lost = self.lost.saturating_add(count as u64);
                    count
                }
            };
            *offset = offset.saturating_add(moved as u64);
            *budget = budget.saturating_sub(moved);
        }
        Ok(Progress::Done)
    }

    /// Gives the guest what the input has, until it has no more or the guest no buffer.
    fn serve_receive(&mut self) -> Result<(), QueueError> {
        let Some(mut queue) = self.receive.take() else {
            return Ok(());
        };
        let outcome = self.read_requests(&mut queue);
        self.receive = Some(queue);
        outcome
    }

    fn read_requests(&mut self, queue: &mut RequestQueue) -> Result<(), QueueError> {
        let mut has_buffer = false;
        while let Some(input) = &self.input {
            let Some(chain) = queue.pop()? else {
                has_buffer = false;
                break;
            };
            has_buffer = true;
            let room = usize::try_from(chain.writable_len()).unwrap_or(BLOCK);
            if room == 0 {
                queue.complete(chain.head(), 0)?;
                continue;
            }
            if !is_readable(input) {
                queue.undo_pop();
                break;
            }
            let mut block = [0; BLOCK];
            let space = block.get_mut(..room.min(BLOCK)).unwrap_or_default();
            let count = match rustix::io::read(input, &mut *space) {
                Ok(count) => count,
                Err(Errno::INTR | Errno::AGAIN) => {
                    queue.undo_pop();
                    break;
                }
                Err(_) => 0,
            };
            if count == 0 {
                queue.undo_pop();
                self.watch_input(false).map_err(QueueError::Interrupt)?;
                self.input = None;
                break;
            }
            chain.write_at(0, space.get(..count).unwrap_or_default())?;
            queue.complete(chain.head(), u32::try_from(count).unwrap_or(0))?;
            self.read = self.read.saturating_add(count as u64);
        }
        self.watch_input(has_buffer)
            .map_err(QueueError::Interrupt)?;
        queue.notify()
    }
}

fn is_ready(fd: &OwnedFd, events: PollFlags) -> bool {
    let now = Timespec::default();
    let mut fds = [PollFd::new(fd, events)];
    loop {
        match poll(&mut fds, Some(&now)) {
            Err(Errno::INTR) => {}
            outcome => return outcome.is_ok_and(|ready| ready > 0),
        }
    }
}

fn is_writable(fd: &OwnedFd) -> bool {
    is_ready(fd, PollFlags::OUT)
}

fn is_readable(fd: &OwnedFd) -> bool {
    is_ready(fd, PollFlags::IN)
}

impl VirtioDevice for Console {
    fn device_type(&self) -> DeviceType {
        DeviceType::Console
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        self.size.map_or(0, |_| F_SIZE)
    }

    /// Columns and rows; the other fields belong to features that are not offered.
    fn config(&self) -> Vec<u8> {
        let size = self.size.map_or([0, 0], |size| [size.columns, size.rows]);
        let mut config: Vec<u8> = size.into_iter().flat_map(u16::to_le_bytes).collect();
        config.extend([0; 8]);
        config
    }

    fn activate(&mut self, activation: Activation) -> Result<(), NeedsReset> {
        let mut queues = activation.queues.into_iter();
        self.receive = queues.next().flatten();
        self.transmit = queues.next().flatten();
        Ok(())
    }

    fn process_queue(&mut self, index: usize) -> Result<(), NeedsReset> {
        let outcome = match index {
            RECEIVE => self.serve_receive(),
            TRANSMIT => self.serve_transmit(),
            _ => Ok(()),
        };
        outcome.map_err(|error| NeedsReset::ring(NAME, &error))
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.poller.as_raw_fd())
    }

    fn process_events(&mut self) -> Result<(), NeedsReset> {
        let mut ready: Vec<Readiness> = Vec::new();
        self.poller
            .wait(0, &mut ready)
            .map_err(|error| NeedsReset {
                device: NAME,
                reason: format!("input and output cannot be waited for: {error}"),
            })?;
        for event in ready {
            match event.token {
                INPUT => self.process_queue(RECEIVE)?,
                _ => self.process_queue(TRANSMIT)?,
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.pending = None;
        self.receive = None;
        self.transmit = None;
        // Only a poller that is broken cannot stop watching, and the next wait says so.
        drop(self.watch_input(false).and(self.watch_output(false)));
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("written_bytes", self.written),
            ("read_bytes", self.read),
            ("lost_bytes", self.lost),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _, pipe};

    use super::*;
    use crate::virtio::mock::{Descriptor, Driver, activate, memory};

    struct Rig {
        receive: Driver,
        transmit: Driver,
        console: Console,
    }

    fn rig(output: impl Into<OwnedFd>, input: Option<OwnedFd>) -> Rig {
        let memory = memory();
        let receive = Driver::in_memory(memory.clone(), 0, 64);
        let transmit = Driver::in_memory(memory, 1, 64);
        let size = Some(WindowSize {
            columns: 80,
            rows: 25,
        });
        let mut console = Console::new(output.into(), input, size).unwrap();
        activate(&mut console, &[&receive, &transmit]);
        Rig {
            receive,
            transmit,
            console,
        }
    }

    #[test]
    fn what_the_guest_writes_comes_out() {
        let (mut reader, writer) = pipe().unwrap();
        let mut rig = rig(writer, None);
        let parts = [rig.transmit.buffer(b"hel"), rig.transmit.buffer(b"lo")];
        let head = rig.transmit.offer(&parts);
        rig.console.process_queue(TRANSMIT).unwrap();
        assert_eq!(rig.transmit.used(), [(head, 0)]);
        let mut text = [0; 5];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
        assert_eq!(rig.console.config(), [80, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_full_output_holds_the_request_back_and_loses_nothing() {
        let (mut reader, writer) = pipe().unwrap();
        let mut rig = rig(writer, None);
        let data: Vec<u8> = (0..0x3_0000_u32).map(|at| at.to_le_bytes()[1]).collect();
        rig.transmit.write(0x8_0000, &data);
        rig.transmit
            .offer(&[Descriptor::readable(0x8_0000, 0x3_0000)]);
        let mut got: Vec<u8> = Vec::new();
        let mut turns = 0;
        rig.console.process_queue(TRANSMIT).unwrap();
        while got.len() < data.len() {
            let mut block = [0; 8192];
            let count = reader.read(&mut block).unwrap();
            got.extend(&block[..count]);
            rig.console.process_queue(TRANSMIT).unwrap();
            rig.console.process_events().unwrap();
            turns += 1;
            assert!(turns < 1000, "no progress after {} bytes", got.len());
        }
        assert_eq!(got, data);
        assert_eq!(rig.transmit.used().len(), 1);
    }

    #[test]
    fn input_waits_for_buffers() {
        let (reader, mut writer) = pipe().unwrap();
        let (_, output) = pipe().unwrap();
        let mut rig = rig(output, Some(reader.into()));
        writer.write_all(b"typed ahead").unwrap();
        rig.console.process_events().unwrap();
        assert!(!rig.console.input_watched);
        let room = rig.receive.room(5);
        rig.receive.offer(&[room]);
        rig.console.process_queue(RECEIVE).unwrap();
        assert_eq!(rig.receive.used(), [(0, 5)]);
        assert_eq!(rig.receive.read(room.address, 5), b"typed");
        let more = [rig.receive.room(64), rig.receive.room(64)];
        for room in more {
            rig.receive.offer(&[room]);
        }
        rig.console.process_queue(RECEIVE).unwrap();
        assert_eq!(rig.receive.used(), [(1, 6)]);
        assert!(rig.console.input_watched);
        drop(writer);
        rig.console.process_events().unwrap();
        assert!(rig.console.input.is_none());
        rig.console.reset();
    }

    #[test]
    fn output_without_a_reader_is_dropped_and_counted() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut rig = rig(writer, None);
        let data = rig.transmit.buffer(b"lost");
        rig.transmit.offer(&[data]);
        rig.console.process_queue(TRANSMIT).unwrap();
        assert_eq!(rig.transmit.used().len(), 1);
        assert_eq!(rig.console.lost, 4);
    }
}
