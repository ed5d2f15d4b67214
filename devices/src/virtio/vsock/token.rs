//! What the device's poller calls the things it watches.

/// One watched descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Listener,
    Ticker,
    Again,
    /// A client of the lobby, by place.
    Client(usize),
    /// A connection, by slot.
    Connection(usize),
}

const CLIENTS: u64 = 1 << 32;
const CONNECTIONS: u64 = 1 << 33;

impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        match token {
            Token::Listener => 0,
            Token::Ticker => 1,
            Token::Again => 2,
            Token::Client(place) => CLIENTS | place as Self,
            Token::Connection(slot) => CONNECTIONS | slot as Self,
        }
    }
}

impl Token {
    /// From what the poller gives back.
    pub(super) fn from_poller(token: u64) -> Option<Self> {
        let index = usize::try_from(token & (CLIENTS - 1)).ok()?;
        match token {
            0 => Some(Self::Listener),
            1 => Some(Self::Ticker),
            2 => Some(Self::Again),
            _ if token & CONNECTIONS != 0 => Some(Self::Connection(index)),
            _ if token & CLIENTS != 0 => Some(Self::Client(index)),
            _ => None,
        }
    }
}
