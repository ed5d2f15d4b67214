//! `husk-rootfs inspect`: what an image is, what its layers bring, and where the space goes.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cli::InspectArguments;
use crate::image::Assembled;
use crate::output::whole;
use crate::tree::{NodeId, Tree};
use crate::treemap::{self, Area};

use super::{CommandError, source};

/// What a directory holds, with everything below it.
struct Usage {
    name: String,
    files: u64,
    bytes: u64,
    /// Bytes by the layer that they come from.
    layers: Vec<u64>,
    below: Vec<Self>,
}

pub(super) fn run(arguments: &InspectArguments) -> Result<String, CommandError> {
    let read = source::read(Some(&arguments.image.image), &arguments.image.options)?;
    let count = read.assembled.layers.len().max(1);
    let tree = &read.assembled.tree;
    let mut counted = vec![false; tree.len()];
    let usage = usage(tree, Tree::ROOT, "/".to_owned(), count, &mut counted);
    if let Some(path) = &arguments.treemap {
        let svg = treemap::draw(&area(&usage), &arguments.image.image.to_string());
        let written = whole::write(path, |mut file| {
            std::io::Write::write_all(&mut file, svg.as_bytes())
        });
        written.map_err(|source| CommandError::Output {
            path: path.clone(),
            source,
        })?;
    }
    let result = json!({
        "files": usage.files, "bytes": usage.bytes, "tree": describe(&usage, arguments.depth),
    });
    let table =
        || layer_table(&read.assembled, &usage) + "\n" + &tree_table(&usage, arguments.depth);
    Ok(read.result(result).unwrap_or_else(table))
}

/// Counts what is below a name. A file with several names counts where it is found first.
fn usage(tree: &Tree, id: NodeId, name: String, layers: usize, counted: &mut [bool]) -> Usage {
    let node = tree.node(id);
    let mut all = Usage {
        name,
        files: 0,
        bytes: 0,
        layers: vec![0; layers],
        below: Vec::new(),
    };
    if !std::mem::replace(&mut counted[id], true) {
        all.files = 1;
        all.bytes = node.data();
        all.layers[node.layer] += all.bytes;
    }
    for (name, child) in tree.names(id) {
        let name = String::from_utf8_lossy(name).into_owned();
        let below = usage(tree, child, name, layers, counted);
        all.files += below.files;
        all.bytes += below.bytes;
        all.layers
            .iter_mut()
            .zip(&below.layers)
            .for_each(|(all, one)| *all += one);
        if tree.node(child).is_directory() || below.bytes > 0 {
            all.below.push(below);
        }
    }
    all.below
        .sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    all
}

fn describe(usage: &Usage, depth: usize) -> Value {
    let mut value = json!({
        "name": usage.name, "files": usage.files, "bytes": usage.bytes, "layers": usage.layers,
    });
    if depth > 0 && !usage.below.is_empty() {
        value["below"] = usage
            .below
            .iter()
            .map(|below| describe(below, depth - 1))
            .collect();
    }
    value
}

fn area(usage: &Usage) -> Area {
    let most = usage
        .layers
        .iter()
        .enumerate()
        .max_by_key(|(_, bytes)| **bytes);
    Area {
        name: usage.name.clone(),
        size: usage.bytes,
        group: most.map_or(0, |(layer, _)| layer),
        parts: usage.below.iter().map(area).collect(),
    }
}

fn layer_table(assembled: &Assembled, usage: &Usage) -> String {
    let mut text = format!(
        "{:>5}  {:>10}  {:>10}  {:>10}  DIGEST\n",
        "LAYER", "PACKED", "UNPACKED", "LEFT"
    );
    for (number, layer) in assembled.layers.iter().enumerate() {
        let (packed, unpacked) = (human(layer.size), human(layer.unpacked_size));
        let left = human(usage.layers[number]);
        // Writing to a string does not fail.
        writeln!(
            text,
            "{number:>5}  {packed:>10}  {unpacked:>10}  {left:>10}  {}",
            layer.digest
        )
        .unwrap_or_default();
    }
    text
}

fn tree_table(usage: &Usage, depth: usize) -> String {
    let mut text = format!("{:>10}  {:>8}  NAME\n", "SIZE", "FILES");
    rows(usage, depth, 0, &mut text);
    text
}

fn rows(usage: &Usage, depth: usize, indent: usize, text: &mut String) {
    let (size, files) = (human(usage.bytes), usage.files);
    let name: String = usage
        .name
        .chars()
        .map(|char| if char.is_control() { '?' } else { char })
        .collect();
    writeln!(text, "{size:>10}  {files:>8}  {:indent$}{name}", "").unwrap_or_default();
    if depth > 0 {
        for below in &usage.below {
            rows(below, depth - 1, indent + 2, text);
        }
    }
}

/// A number of bytes with a binary unit.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        (rest, whole) = (whole % 1024 * 10 / 1024, whole / 1024);
        unit += 1;
    }
    if unit == 0 {
        format!("{whole} B")
    } else {
        format!("{whole}.{rest} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_are_short() {
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(150 << 20), "150.0 MiB");
    }
}
