//! Attacks with receive buffers while the host answers.

use std::time::{Duration, Instant};

use super::{RECEIVE, TRANSMIT};
use crate::driver::{Descriptor, Device, Queue, flag};
use crate::honest::{Request, UNWRITTEN, exchange};
use crate::memory::{PAGE, Page};

/// How long the host may take to answer a frame.
const ANSWER: Duration = Duration::from_secs(10);

/// A question to 10.9.0.1 that it answers: who has its address?
fn question() -> Vec<u8> {
    let own = [2, 0, 0, 0, 0, 9];
    let mut packet = vec![0; 12];
    packet.extend([0xff; 6]);
    packet.extend(own);
    packet.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    packet.extend(own);
    packet.extend([10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
    packet
}

fn ask(device: &Device, queues: &mut [Queue]) -> Result<(), String> {
    let request = Request {
        queue: TRANSMIT,
        readable: question(),
        writable: 0,
    };
    exchange(device, queues, &request).map(drop)
}

/// Offers pages of which the device may write so many bytes each.
fn receive(device: &Device, queues: &mut [Queue], lengths: &[u32]) -> Result<Vec<Page>, String> {
    let queue = queues.get_mut(RECEIVE).ok_or("no queue")?;
    let mut pages = Vec::new();
    for (slot, len) in (0..).zip(lengths) {
        let page = Page::new()?;
        page.write(0, &[UNWRITTEN; PAGE]);
        let descriptor = Descriptor {
            address: page.physical(),
            len: *len,
            flags: flag::WRITE,
            next: 0,
        };
        queue.describe(slot, descriptor);
        queue.offer(slot);
        pages.push(page);
    }
    device.kick(queue);
    Ok(pages)
}

/// Waits for the host's answer, which is the first frame of its kind, among whatever else comes.
fn await_answer(queues: &mut [Queue], pages: &[Page]) -> Result<(), String> {
    let queue = queues.get_mut(RECEIVE).ok_or("no queue")?;
    let end = Instant::now() + ANSWER;
    let mut came = Vec::new();
    while Instant::now() < end {
        while let Some((head, len)) = queue.completed() {
            let page = pages.get(usize::from(head)).ok_or("a head of nobody")?;
            let len = usize::try_from(len).unwrap_or(PAGE).min(PAGE);
            came.extend(page.read(0, len));
        }
        // An answer of 10.9.0.1: operation 2, then its addresses.
        if came.windows(2).any(|pair| pair == [0, 2])
            && came.windows(4).any(|four| four == [10, 9, 0, 1])
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(format!("no answer within {ANSWER:?}, but {came:02x?}"))
}

pub(super) fn answered(device: &Device, lengths: &[u32]) -> Result<(), String> {
    let mut queues = device.start(u64::MAX)?;
    let pages = receive(device, &mut queues, lengths)?;
    ask(device, &mut queues)?;
    let outcome = await_answer(&mut queues, &pages);
    device.reset()?;
    outcome
}

pub(super) fn outside(device: &Device) -> Result<(), String> {
    let mut queues = device.start(u64::MAX)?;
    let queue = queues.get_mut(RECEIVE).ok_or("no queue")?;
    let descriptor = Descriptor {
        address: 1 << 40,
        len: 4096,
        flags: flag::WRITE,
        next: 0,
    };
    queue.describe(9, descriptor);
    queue.offer(9);
    let pages = receive(device, &mut queues, &[4096, 4096])?;
    ask(device, &mut queues)?;
    let queue = queues.get_mut(RECEIVE).ok_or("no queue")?;
    let first = queue.wait();
    if first != Ok((9, 0)) {
        device.reset()?;
        return Err(format!("the bad buffer: {first:?}"));
    }
    let outcome = await_answer(&mut queues, &pages);
    device.reset()?;
    outcome
}

pub(super) fn readable(device: &Device) -> Result<(), String> {
    let mut queues = device.start(u64::MAX)?;
    let page = Page::new()?;
    let queue = queues.get_mut(RECEIVE).ok_or("no queue")?;
    let descriptor = Descriptor {
        address: page.physical(),
        len: 4096,
        flags: 0,
        next: 0,
    };
    queue.describe(0, descriptor);
    queue.offer(0);
    device.kick(queue);
    ask(device, &mut queues)?;
    device.reset()
}

/// Asks often with no room for answers: they wait at the host, and come when there is room.
pub(super) fn starving(device: &Device) -> Result<(), String> {
    let mut queues = device.start(u64::MAX)?;
    for _ in 0..100 {
        ask(device, &mut queues)?;
    }
    let pages = receive(device, &mut queues, &[4096; 8])?;
    let outcome = await_answer(&mut queues, &pages);
    device.reset()?;
    outcome
}

/// After a reset nothing may be written to buffers that were given before.
pub(super) fn forgotten(device: &Device) -> Result<(), String> {
    let mut queues = device.start(u64::MAX)?;
    ask(device, &mut queues)?;
    let pages = receive(device, &mut queues, &[4096; 4])?;
    device.reset()?;
    for page in &pages {
        page.write(0, &[UNWRITTEN; PAGE]);
    }
    std::thread::sleep(Duration::from_millis(50));
    match pages
        .iter()
        .all(|page| page.read(0, PAGE) == vec![UNWRITTEN; PAGE])
    {
        true => Ok(()),
        false => Err("written after the reset".to_owned()),
    }
}
