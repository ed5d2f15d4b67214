//! Flow control of one connection, exact and without I/O (virtio 1.2, 5.10.6.3).
//!
//! Each side tells how many bytes it can hold (`buf_alloc`) and how many it has passed on since the start (`fwd_cnt`). Counters are
//! free-running and wrap. What the guest tells is not believed: a window of 4 GiB costs the host nothing, since what is sent
//! goes straight into the guest's buffers, and a `fwd_cnt` that acknowledges what was never sent is ignored.

/// The guest sent more than it was allowed to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Credit {
    /// What this side can hold.
    window: u32,
    /// Bytes received from the guest.
    received: u32,
    /// Those of them passed on to the socket.
    forwarded: u32,
    /// `forwarded` as the guest knows it.
    told: u32,
    /// Bytes sent to the guest.
    sent: u32,
    /// What the guest can hold, as it says.
    peer_window: u32,
    /// Bytes the guest has passed on: never ahead of `sent`.
    peer_forwarded: u32,
}

impl Credit {
    /// A new connection, of which this side holds at most `window` bytes. The guest can hold none before it says so.
    pub(super) fn new(window: u32) -> Self {
        Self {
            window,
            received: 0,
            forwarded: 0,
            told: 0,
            sent: 0,
            peer_window: 0,
            peer_forwarded: 0,
        }
    }

    /// What this side can hold.
    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// Bytes received and not yet passed on, at most the window.
    pub(super) fn held(&self) -> u32 {
        self.received.wrapping_sub(self.forwarded)
    }

    /// Takes in `len` bytes.
    pub(super) fn receive(&mut self, len: u32) -> Result<(), Overrun> {
        if len > self.window.saturating_sub(self.held()) {
            return Err(Overrun);
        }
        self.received = self.received.wrapping_add(len);
        Ok(())
    }

    /// `len` of the bytes held were passed on.
    pub(super) fn forward(&mut self, len: u32) {
        debug_assert!(len <= self.held(), "more passed on than held");
        self.forwarded = self.forwarded.wrapping_add(len.min(self.held()));
    }

    /// Whether the guest is to be told of room: it knows of less than half of the window that is free.
    ///
    /// No guest waits for ever: one that believes the window full is told once half of what it sent was passed on.
    pub(super) fn update_due(&self) -> bool {
        self.forwarded.wrapping_sub(self.told) >= self.window.div_ceil(2)
    }

    /// `buf_alloc` and `fwd_cnt` for a packet to the guest.
    pub(super) fn stamp(&self) -> (u32, u32) {
        (self.window, self.forwarded)
    }

    /// A packet with that stamp was sent.
    pub(super) fn told(&mut self) {
        self.told = self.forwarded;
    }

    /// Takes in what a packet of the guest says. Of two packets that crossed, the newer `fwd_cnt` stays.
    pub(super) fn learn(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.peer_window = buf_alloc;
        if fwd_cnt.wrapping_sub(self.peer_forwarded) <= self.in_flight() {
            self.peer_forwarded = fwd_cnt;
        }
    }

    /// How many bytes the guest has room for.
    pub(super) fn free(&self) -> u32 {
        self.peer_window.saturating_sub(self.in_flight())
    }

    /// `len` bytes, at most [`Self::free`], were sent.
    pub(super) fn spend(&mut self, len: u32) {
        debug_assert!(len <= self.free(), "more sent than the guest has room for");
        self.sent = self.sent.wrapping_add(len);
    }

    fn in_flight(&self) -> u32 {
        self.sent.wrapping_sub(self.peer_forwarded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::vsock::random::Random;

    /// The same in 128 bits, where nothing wraps.
    #[derive(Clone, Copy, Default)]
    struct Exact {
        received: u128,
        forwarded: u128,
        told: u128,
        sent: u128,
        peer_window: u128,
        peer_forwarded: u128,
    }

    fn near(start: u32) -> (Credit, Exact) {
        let mut credit = Credit::new(100);
        credit.received = start;
        credit.forwarded = start;
        credit.told = start;
        credit.sent = start;
        credit.peer_forwarded = start;
        let start = u128::from(start);
        let exact = Exact {
            received: start,
            forwarded: start,
            told: start,
            sent: start,
            peer_window: 0,
            peer_forwarded: start,
        };
        (credit, exact)
    }

    fn check(credit: &Credit, exact: &Exact) {
        let window = u128::from(credit.window);
        let in_flight = exact.sent - exact.peer_forwarded;
        assert_eq!(u128::from(credit.held()), exact.received - exact.forwarded);
        assert!(u128::from(credit.held()) <= window);
        assert_eq!(
            u128::from(credit.free()),
            exact.peer_window.saturating_sub(in_flight)
        );
        assert_eq!(
            credit.update_due(),
            (exact.forwarded - exact.told) * 2 >= window
        );
    }

    fn step(credit: &mut Credit, exact: &mut Exact, random: &mut Random) {
        let window = u128::from(credit.window);
        let small = random.below(300);
        match random.below(5) {
            0 => {
                let room = window - (exact.received - exact.forwarded);
                let fits = u128::from(small) <= room;
                assert_eq!(credit.receive(small).is_ok(), fits);
                exact.received += if fits { small.into() } else { 0 };
            }
            1 => {
                let len = small.min(credit.held());
                credit.forward(len);
                exact.forwarded += u128::from(len);
            }
            2 => {
                let (buf_alloc, fwd_cnt) = credit.stamp();
                assert_eq!(u128::from(buf_alloc), window);
                assert_eq!(u128::from(fwd_cnt), exact.forwarded & u128::from(u32::MAX));
                credit.told();
                exact.told = exact.forwarded;
            }
            3 => {
                let len = small.min(credit.free());
                credit.spend(len);
                exact.sent += u128::from(len);
            }
            _ => learn(credit, exact, random),
        }
    }

    fn learn(credit: &mut Credit, exact: &mut Exact, random: &mut Random) {
        let in_flight = exact.sent - exact.peer_forwarded;
        // Honest, forged ahead, and stale acknowledgements; windows from none to all.
        let claimed = match random.below(4) {
            0 => exact.sent + 1 + u128::from(random.below(1 << 30)),
            1 => exact.peer_forwarded - u128::from(random.below(200)).min(exact.peer_forwarded),
            _ => exact.peer_forwarded + u128::from(random.below(400)).min(in_flight),
        };
        let buf_alloc = match random.below(8) {
            0 => 0,
            1 => u32::MAX,
            _ => random.below(1000),
        };
        let wire = u32::try_from(claimed & u128::from(u32::MAX)).unwrap();
        credit.learn(buf_alloc, wire);
        exact.peer_window = buf_alloc.into();
        if (exact.peer_forwarded..=exact.sent).contains(&claimed) {
            exact.peer_forwarded = claimed;
        }
    }

    #[test]
    fn a_million_random_steps_agree_with_arithmetic_that_does_not_wrap() {
        let mut random = Random::new(7);
        for round in 0..1000 {
            // Far from, just before and across the wrap.
            let start = [0, u32::MAX, u32::MAX - 100, u32::MAX / 2, random.next_u32()][round % 5];
            let (mut credit, mut exact) = near(start.max(400));
            for _ in 0..1000 {
                step(&mut credit, &mut exact, &mut random);
                check(&credit, &exact);
            }
        }
    }

    #[test]
    fn every_acknowledgement_near_the_wrap_is_judged_rightly() {
        const AROUND: u32 = 40;
        for start in 0..AROUND {
            let start = (u32::MAX - AROUND / 2).wrapping_add(start);
            for in_flight in 0..AROUND {
                for claimed in 0..2 * AROUND {
                    let (mut credit, _) = near(start);
                    credit.learn(AROUND, start);
                    credit.spend(in_flight);
                    credit.learn(AROUND, start.wrapping_add(claimed).wrapping_sub(AROUND / 2));
                    let acknowledged = claimed
                        .checked_sub(AROUND / 2)
                        .filter(|count| *count <= in_flight)
                        .unwrap_or(0);
                    assert_eq!(credit.free(), AROUND - in_flight + acknowledged);
                }
            }
        }
    }

    #[test]
    fn the_window_is_held_to_the_byte() {
        for start in [0, u32::MAX - 50, u32::MAX] {
            for held in 0..=100 {
                for len in 0..=201 {
                    let (mut credit, _) = near(start);
                    credit.receive(held).unwrap();
                    let fits = held + len <= 100;
                    assert_eq!(credit.receive(len).is_ok(), fits);
                    assert_eq!(credit.held(), if fits { held + len } else { held });
                }
            }
        }
    }

    #[test]
    fn a_guest_that_shrinks_its_window_below_what_is_in_flight_gets_nothing() {
        let mut credit = Credit::new(0);
        credit.learn(u32::MAX, 0);
        assert_eq!(credit.free(), u32::MAX);
        credit.spend(u32::MAX);
        assert_eq!(credit.free(), 0);
        credit.learn(10, 0);
        assert_eq!(credit.free(), 0);
        credit.learn(10, u32::MAX - 3);
        assert_eq!(credit.free(), 7);
    }
}
