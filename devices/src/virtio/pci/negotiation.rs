//! What the driver has told the device so far: the writable side of the common configuration (virtio 1.2, 4.1.4.3).
//!
//! Pure: it says what is to be done ([`Action`]), the transport does it. Features can be chosen before `FEATURES_OK`, a queue
//! until it is enabled, anything at all only before `DRIVER_OK`; other writes are ignored.

use vm_memory::GuestMemoryMmap;

use super::common_config::Register;
use super::interrupts::NO_VECTOR;
use super::queue_config::{QueueConfig, half_of, with_half};
use super::status::{self, DRIVER, DRIVER_OK, FEATURES_OK};

/// The feature every driver of ours must accept.
pub(super) const VERSION_1: u64 = 1 << virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

/// What the device is, as far as the registers show it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Features the driver may choose from.
    pub(super) features: u64,
    /// MSI-X vectors it may choose from.
    pub(super) vectors: u16,
}

/// What a write asks the transport to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing more.
    None,
    /// `DRIVER_OK` was set: give the device its queues.
    Activate,
    /// 0 was written to the status.
    Reset,
}

/// The driver's side of the registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Negotiation {
    offer_features: u64,
    vectors: u16,
    status: u8,
    device_feature_select: u32,
    driver_feature_select: u32,
    features: u64,
    config_vector: u16,
    queue_select: u16,
    queues: Vec<QueueConfig>,
}

impl Negotiation {
    /// As after power-on.
    pub(super) fn new(offer: Offer, queue_sizes: &[u16]) -> Self {
        Self {
            offer_features: offer.features,
            vectors: offer.vectors,
            status: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            features: 0,
            config_vector: NO_VECTOR,
            queue_select: 0,
            queues: queue_sizes.iter().copied().map(QueueConfig::new).collect(),
        }
    }

    /// As after power-on, again.
    pub(super) fn reset(&mut self) {
        let offer = Offer {
            features: self.offer_features,
            vectors: self.vectors,
        };
        let sizes: Vec<_> = self.queues.iter().map(QueueConfig::max_size).collect();
        *self = Self::new(offer, &sizes);
    }

    /// Features both sides agreed on.
    pub(super) fn features(&self) -> u64 {
        self.features
    }

    /// Vector for configuration changes.
    pub(super) fn config_vector(&self) -> u16 {
        self.config_vector
    }

    /// All queues.
    pub(super) fn queues(&self) -> &[QueueConfig] {
        &self.queues
    }

    fn driver_ok(&self) -> bool {
        self.status & DRIVER_OK != 0
    }

    fn acceptable(&self) -> bool {
        self.features & !self.offer_features == 0 && self.features & VERSION_1 != 0
    }

    /// The driver's read. Registers of a queue that does not exist read as 0, above all its size.
    pub(super) fn read(&self, register: Register) -> u32 {
        let queue = self.queues.get(usize::from(self.queue_select));
        let of_queue = |value: fn(&QueueConfig) -> u32| queue.map_or(0, value);
        match register {
            Register::DeviceFeatureSelect => self.device_feature_select,
            Register::DeviceFeature => {
                feature_word(self.offer_features, self.device_feature_select)
            }
            Register::DriverFeatureSelect => self.driver_feature_select,
            Register::DriverFeature => feature_word(self.features, self.driver_feature_select),
            Register::ConfigVector => self.config_vector.into(),
            Register::QueueCount => u32::try_from(self.queues.len()).unwrap_or(0),
            Register::Status => self.status.into(),
            // The configuration of our devices never changes while they have a driver.
            Register::ConfigGeneration => 0,
            Register::QueueSelect => self.queue_select.into(),
            Register::QueueSize => of_queue(|queue| queue.size.into()),
            Register::QueueVector => of_queue(|queue| queue.vector.into()),
            Register::QueueEnable => of_queue(|queue| queue.enabled().into()),
            Register::QueueNotifyOffset => queue.map_or(0, |_| self.queue_select.into()),
            Register::Descriptors(half) => {
                queue.map_or(0, |queue| half_of(queue.descriptors, half))
            }
            Register::Available(half) => queue.map_or(0, |queue| half_of(queue.available, half)),
            Register::Used(half) => queue.map_or(0, |queue| half_of(queue.used, half)),
        }
    }

    /// The driver's write.
    pub(super) fn write(
        &mut self,
        register: Register,
        value: u32,
        memory: &GuestMemoryMmap,
    ) -> Action {
        // Registers narrower than 32 bits are only ever written at their own width.
        let word = u16::try_from(value).unwrap_or(u16::MAX);
        match register {
            Register::DeviceFeatureSelect => self.device_feature_select = value,
            Register::DriverFeatureSelect => self.driver_feature_select = value,
            Register::DriverFeature => self.write_features(value),
            Register::ConfigVector if !self.driver_ok() => self.config_vector = self.vector(word),
            Register::Status => return self.write_status(value),
            Register::QueueSelect => self.queue_select = word,
            Register::QueueSize
            | Register::QueueVector
            | Register::QueueEnable
            | Register::Descriptors(_)
            | Register::Available(_)
            | Register::Used(_) => self.write_queue(register, value, memory),
            // Read-only, or too late.
            Register::DeviceFeature
            | Register::ConfigVector
            | Register::QueueCount
            | Register::ConfigGeneration
            | Register::QueueNotifyOffset => {}
        }
        Action::None
    }

    fn write_features(&mut self, value: u32) {
        let open = self.status & DRIVER != 0 && self.status & FEATURES_OK == 0;
        let (shift, mask) = match self.driver_feature_select {
            0 => (0, u64::from(u32::MAX)),
            1 => (32, u64::from(u32::MAX) << 32),
            _ => return,
        };
        if open {
            self.features = self.features & !mask | u64::from(value) << shift;
        }
    }

    fn write_status(&mut self, value: u32) -> Action {
        let Some(written) = u8::try_from(value).ok().filter(|written| *written != 0) else {
            return Action::Reset;
        };
        let before = self.status;
        self.status = status::next(before, written, self.acceptable());
        if self.status & !before & DRIVER_OK != 0 {
            Action::Activate
        } else {
            Action::None
        }
    }

    fn write_queue(&mut self, register: Register, value: u32, memory: &GuestMemoryMmap) {
        let word = u16::try_from(value).unwrap_or(u16::MAX);
        let vector = self.vector(word);
        let may_enable = self.status & FEATURES_OK != 0;
        let open = !self.driver_ok();
        let queue = self.queues.get_mut(usize::from(self.queue_select));
        let Some(queue) = queue.filter(|queue| open && !queue.enabled()) else {
            return;
        };
        let put = |address: &mut u64, half| *address = with_half(*address, half, value);
        match register {
            Register::QueueSize => queue.size = word,
            Register::QueueVector => queue.vector = vector,
            // Only 1 enables; nothing but a reset disables (virtio 1.2, 4.1.4.3.2).
            Register::QueueEnable if word == 1 && may_enable => queue.enable(memory),
            Register::Descriptors(half) => put(&mut queue.descriptors, half),
            Register::Available(half) => put(&mut queue.available, half),
            Register::Used(half) => put(&mut queue.used, half),
            _ => {}
        }
    }

    /// A vector that does not exist reads back as none (virtio 1.2, 4.1.5.1.2.1).
    fn vector(&self, wanted: u16) -> u16 {
        if wanted < self.vectors {
            wanted
        } else {
            NO_VECTOR
        }
    }
}

fn feature_word(features: u64, select: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = features.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}
