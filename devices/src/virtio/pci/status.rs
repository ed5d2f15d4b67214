//! The device status field as a state machine (virtio 1.2, 2.1 and 3.1.1).
//!
//! ```text
//!   0 ──ACKNOWLEDGE──► 1 ──DRIVER──► 3 ──FEATURES_OK──► 11 ──DRIVER_OK──► 15
//! ```
//!
//! Bits come in this order only and never go, but for a reset, which a driver may ask for at any time.

/// The guest has noticed the device.
pub(super) const ACKNOWLEDGE: u8 = 1;
/// The guest knows how to drive it.
pub(super) const DRIVER: u8 = 2;
/// The driver is ready.
pub(super) const DRIVER_OK: u8 = 4;
/// Features are agreed on.
pub(super) const FEATURES_OK: u8 = 8;
/// The device cannot go on.
pub(super) const NEEDS_RESET: u8 = 0x40;
/// The driver has given up.
pub(super) const FAILED: u8 = 0x80;

/// Bits in the order a driver sets them.
const ORDER: [u8; 4] = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];

/// The status after the driver wrote `written`, which is not 0, to a device with `status`. `acceptable` says whether the features
/// the driver chose are.
pub(super) fn next(status: u8, written: u8, acceptable: bool) -> u8 {
    let takes_back = status & !written != 0;
    if takes_back || status & FAILED != 0 {
        return status;
    }
    let mut next = status | written & FAILED;
    for bit in ORDER {
        let allowed = bit != FEATURES_OK || acceptable;
        if written & bit == 0 || !allowed {
            break;
        }
        next |= bit;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_follows_the_order_arrives() {
        let mut status = 0;
        for bit in ORDER {
            status = next(status, status | bit, true);
            assert_ne!(status & bit, 0);
        }
        assert_eq!(status, 15);
    }

    #[test]
    fn every_write_in_every_status_keeps_the_order() {
        let legal = [0, 1, 3, 11, 15];
        for status in legal
            .into_iter()
            .flat_map(|status| [status, status | FAILED])
        {
            for written in 1..=255_u8 {
                for acceptable in [false, true] {
                    let after = next(status, written, acceptable);
                    assert!(legal.contains(&(after & !FAILED)), "{status} {written}");
                    assert_eq!(after & status, status, "{status} {written} took bits back");
                    let agreed = after & !status & FEATURES_OK != 0;
                    assert!(!agreed || acceptable, "{status} {written}");
                }
            }
        }
    }
}
