//! Progress of layers that are unpacked: a bar on standard error while that is a terminal, and nothing anywhere else.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::{Image, ImageContent};

const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
/// Of images that say no lengths.
const UNKNOWN_TEMPLATE: &str = "{msg} {bytes} {bytes_per_sec}";

/// A bar for the layers of an image.
pub(super) struct Layers {
    bar: ProgressBar,
    count: usize,
    /// The layers of which something was read.
    begun: Mutex<BTreeSet<usize>>,
}

impl Layers {
    pub(super) fn new(image: &Image) -> Self {
        let (count, length) = match &image.content {
            ImageContent::Layers(layers) => {
                let lengths = layers.iter().map(|layer| Some(layer.packed?.1));
                let all = lengths.collect::<Option<Vec<u64>>>();
                (
                    layers.len(),
                    all.map(|all| all.into_iter().fold(0, u64::saturating_add)),
                )
            }
            ImageContent::Directory(_) => (0, None),
        };
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let template = if length.is_some() {
            TEMPLATE
        } else {
            UNKNOWN_TEMPLATE
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            count,
            begun: Mutex::new(BTreeSet::new()),
        }
    }

    /// Bytes of a layer were read.
    pub(super) fn read(&self, layer: usize, bytes: u64) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.insert(layer) {
            let message = format!("layer {}/{}", begun.len(), self.count);
            self.bar.set_message(message);
        }
        self.bar.inc(bytes);
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_as_they_begin() {
        let image = Image {
            digest: None,
            config: None,
            content: ImageContent::Layers(Vec::new()),
        };
        let layers = Layers::new(&image);
        for (layer, bytes) in [(3, 10), (1, 5), (3, 1)] {
            layers.read(layer, bytes);
        }
        assert_eq!(
            (layers.bar.position(), &*layers.bar.message()),
            (16, "layer 2/0")
        );
    }
}
