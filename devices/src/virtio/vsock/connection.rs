//! One connection's state, without I/O (virtio 1.2, 5.10.6.5).
//!
//! ```text
//!  client on the host: Requested --RESPONSE--> Open --both directions over--> Ending --last packet sent--> gone
//!  guest's REQUEST:    ------------------------^
//! ```
//!
//! Each direction ends on its own: a half-close on either side (`shutdown(2)`, or a `SHUTDOWN` packet with one flag) passes to
//! the other while the opposite direction goes on.

use super::credit::Credit;
use super::packet::{HOST_CID, Header, NO_MORE_RECEIVE, NO_MORE_SEND, Operation, STREAM};

/// A connection's two ports: what tells it from others, since both context ids are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) host_port: u32,
    pub(super) guest_port: u32,
}

/// What one side will do no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) send: bool,
    pub(super) receive: bool,
}

impl Ends {
    fn flags(self) -> u32 {
        let send = if self.send { NO_MORE_SEND } else { 0 };
        let receive = if self.receive { NO_MORE_RECEIVE } else { 0 };
        send | receive
    }
}

/// How a connection says goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// It was broken, or the guest has ended both directions and waits for this.
    Reset,
    /// The host has ended it. The guest answers with a reset, whenever it has read what it was sent.
    Shutdown,
    /// The guest knows.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Requested,
    Open,
    Ending(Farewell),
}

/// What the owner of the socket is to do after a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Nothing but to look at the state again.
    Settle,
    /// Tell the client on the host that it is connected.
    Accepted,
    /// Pass the payload on.
    Deliver,
    /// Close the socket now.
    Close,
}

/// State of one connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: Key,
    pub(super) credit: Credit,
    phase: Phase,
    /// `REQUEST` or `RESPONSE` while it is still to be sent.
    greeting: Option<Operation>,
    /// What the guest said.
    guest: Ends,
    /// What the socket on the host said.
    host: Ends,
    /// What of `host` the guest knows.
    told: Ends,
    /// The guest knows the connection no more, while the socket still gets what it sent.
    forgotten: bool,
    /// The guest asked for an update of its credit.
    asked: bool,
    /// Credit ran out and the guest is to be asked for more; once for each time it ran out.
    starved: Starved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Starved {
    No,
    Unasked,
    Asked,
}

impl Connection {
    /// A client on the host wants the guest's port.
    pub(super) fn to_guest(key: Key, window: u32) -> Self {
        Self::new(key, window, Phase::Requested, Operation::Request)
    }

    /// The guest's `request` was granted.
    pub(super) fn from_guest(key: Key, window: u32, request: &Header) -> Self {
        let mut connection = Self::new(key, window, Phase::Open, Operation::Response);
        connection.credit.learn(request.buf_alloc, request.fwd_cnt);
        connection
    }

    fn new(key: Key, window: u32, phase: Phase, greeting: Operation) -> Self {
        Self {
            key,
            credit: Credit::new(window),
            phase,
            greeting: Some(greeting),
            guest: Ends::default(),
            host: Ends::default(),
            told: Ends::default(),
            forgotten: false,
            asked: false,
            starved: Starved::No,
        }
    }

    /// Takes in a packet of the guest.
    pub(super) fn packet(&mut self, operation: Operation, header: &Header) -> Reaction {
        match (self.phase, operation) {
            (Phase::Ending(_), Operation::Reset) => self.end(Farewell::None),
            // What was in flight when the end was decided.
            (Phase::Ending(_), _) => Reaction::Settle,
            (Phase::Requested, Operation::Response) if self.greeting.is_none() => {
                self.credit.learn(header.buf_alloc, header.fwd_cnt);
                self.phase = Phase::Open;
                Reaction::Accepted
            }
            (Phase::Requested, Operation::Reset) => self.end(Farewell::None),
            (Phase::Open, _) => self.packet_when_open(operation, header),
            (Phase::Requested, _) => self.end(Farewell::Reset),
        }
    }

    fn packet_when_open(&mut self, operation: Operation, header: &Header) -> Reaction {
        self.credit.learn(header.buf_alloc, header.fwd_cnt);
        if self.credit.free() > 0 {
            self.starved = Starved::No;
        }
        match operation {
            Operation::Data => {
                if self.guest.send || self.credit.receive(header.len).is_err() {
                    return self.end(Farewell::Reset);
                }
                Reaction::Deliver
            }
            Operation::CreditUpdate => Reaction::Settle,
            Operation::CreditRequest => {
                self.asked = true;
                Reaction::Settle
            }
            Operation::Shutdown => {
                self.guest.send |= header.flags & NO_MORE_SEND != 0;
                self.guest.receive |= header.flags & NO_MORE_RECEIVE != 0;
                Reaction::Settle
            }
            // It had ended its stream in order, so a slow reader still gets all of it.
            Operation::Reset if self.guest.send && !self.to_host_over() => {
                self.guest.receive = true;
                self.forgotten = true;
                Reaction::Settle
            }
            Operation::Reset => self.end(Farewell::None),
            Operation::Request | Operation::Response => self.end(Farewell::Reset),
        }
    }

    /// Ends the connection at once, whatever is in flight.
    pub(super) fn end(&mut self, farewell: Farewell) -> Reaction {
        self.phase = Phase::Ending(match (self.greeting.take(), farewell) {
            // The guest was never asked.
            (Some(Operation::Request), _) => Farewell::None,
            // It was never answered: this is the answer.
            (Some(_), Farewell::Shutdown) => Farewell::Reset,
            (_, farewell) => farewell,
        });
        Reaction::Close
    }

    /// The socket on the host will give no more (`send`), or take no more (`receive`).
    pub(super) fn host_ends(&mut self, ends: Ends) {
        self.host.send |= ends.send;
        self.host.receive |= ends.receive;
    }

    /// Whether the connection is ending: both directions are over, or [`Self::end`] was called.
    pub(super) fn settle(&mut self) -> bool {
        if self.phase == Phase::Open && self.to_host_over() && self.to_guest_over() {
            let by_guest = self.guest.send && self.guest.receive;
            self.end(match by_guest {
                _ if self.forgotten => Farewell::None,
                true => Farewell::Reset,
                false => Farewell::Shutdown,
            });
        }
        matches!(self.phase, Phase::Ending(_))
    }

    fn to_host_over(&self) -> bool {
        self.host.receive || (self.guest.send && self.credit.held() == 0)
    }

    fn to_guest_over(&self) -> bool {
        self.host.send || self.guest.receive
    }

    /// Whether the client on the host still waits for the guest's answer.
    pub(super) fn is_requested(&self) -> bool {
        self.phase == Phase::Requested
    }

    /// Whether nothing is left to say.
    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Ending(Farewell::None)
    }

    /// Whether bytes from the socket are wanted, credit aside.
    pub(super) fn reads(&self) -> bool {
        self.phase == Phase::Open && !self.to_guest_over()
    }

    /// Whether the socket has a reader.
    pub(super) fn has_reader(&self) -> bool {
        !self.host.receive
    }

    /// The guest has sent all it will, and the socket has got it.
    pub(super) fn sent_all(&self) -> bool {
        self.guest.send && self.credit.held() == 0
    }

    /// The guest reads no more.
    pub(super) fn deaf(&self) -> bool {
        self.guest.receive
    }

    /// There are bytes for the guest, and it has no room.
    pub(super) fn starve(&mut self) {
        if self.starved == Starved::No {
            self.starved = Starved::Unasked;
        }
    }

    /// The next packet without payload that the guest is to get.
    pub(super) fn due(&self) -> Option<Operation> {
        match self.phase {
            Phase::Ending(Farewell::Reset) => Some(Operation::Reset),
            Phase::Ending(Farewell::Shutdown) => Some(Operation::Shutdown),
            Phase::Ending(Farewell::None) => None,
            _ if self.greeting.is_some() => self.greeting,
            Phase::Requested => None,
            Phase::Open if self.forgotten => None,
            Phase::Open if self.host.flags() & !self.told.flags() != 0 => Some(Operation::Shutdown),
            Phase::Open if self.asked || self.credit.update_due() => Some(Operation::CreditUpdate),
            Phase::Open if self.starved == Starved::Unasked => Some(Operation::CreditRequest),
            Phase::Open => None,
        }
    }

    /// A packet was sent: the one that [`Self::due`] named, or data.
    pub(super) fn sent(&mut self, operation: Operation) {
        self.credit.told();
        match operation {
            Operation::Request | Operation::Response => self.greeting = None,
            Operation::Shutdown => self.told = self.host,
            Operation::CreditUpdate => self.asked = false,
            Operation::CreditRequest => self.starved = Starved::Asked,
            Operation::Reset | Operation::Data => {}
        }
        if let Phase::Ending(_) = self.phase {
            self.phase = Phase::Ending(Farewell::None);
        }
    }

    /// The header of a packet to the guest, with this side's credit.
    pub(super) fn header(&self, guest_cid: u64, operation: Operation, len: u32) -> Header {
        let (buf_alloc, fwd_cnt) = self.credit.stamp();
        let flags = match operation {
            Operation::Shutdown if self.phase == Phase::Open => self.host.flags(),
            Operation::Shutdown => NO_MORE_SEND | NO_MORE_RECEIVE,
            _ => 0,
        };
        Header {
            src_cid: HOST_CID,
            dst_cid: guest_cid,
            src_port: self.key.host_port,
            dst_port: self.key.guest_port,
            len,
            socket_type: STREAM,
            op: operation.code(),
            flags,
            buf_alloc,
            fwd_cnt,
        }
    }
}
