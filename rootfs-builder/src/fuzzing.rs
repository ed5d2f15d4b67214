//! What fuzzers call (`fuzz/`): the readers of everything that an image or a recipe may bring, on bytes in memory. A reader may refuse;
//! it may not panic, hang, use memory without bound, or believe what is not so.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oci_spec::image::{Descriptor, MediaType};
use serde_json::json;

use crate::digest::Digest;
use crate::image::{self, Content, Options, Repository, Selection, Store};
use crate::limits::Limits;
use crate::recipe::Recipe;
use crate::registry::{self, RegistryOptions};
use crate::tar::Reader;
use crate::tree::{self, Kind, NodeId, Source, Tree, Usage};

/// Small, so that a fuzzer reaches them.
const LIMITS: Limits = Limits {
    max_entries: 1000,
    max_size: 1 << 20,
    max_depth: 16,
    max_layers: 4,
};

/// An archive as a layer, twice: what the second finds is what the first made.
pub fn tar(bytes: &[u8]) {
    let mut tree = Tree::new(0);
    let mut usage = Usage::default();
    for layer in 0..2 {
        let reader = Reader::new(bytes, bytes.len() as u64);
        if tree::apply(&mut tree, layer, reader, &LIMITS, &mut usage).is_err() {
            break;
        }
    }
    check(&tree, Tree::ROOT, 1, bytes.len() as u64);
}

/// A tree is one that can be written: names that are names, and data that is in its layer and in its file.
fn check(tree: &Tree, directory: NodeId, depth: usize, length: u64) {
    assert!(depth <= LIMITS.max_depth + 1, "too deep");
    for (name, id) in tree.names(directory) {
        assert!(
            !matches!(name, b"" | b"." | b"..") && name.len() <= 255,
            "{name:?}"
        );
        assert!(!name.contains(&b'/') && !name.contains(&0), "{name:?}");
        let node = tree.node(id);
        assert!(node.links > 0, "a name leads to what is gone");
        match &node.kind {
            Kind::File(Source::Layer(0..=1), contents) => {
                let mut end = 0;
                for extent in &contents.data {
                    assert!(extent.offset >= end, "data overlaps");
                    end = extent.offset + extent.length;
                    assert!(
                        extent.stored + extent.length <= length,
                        "data outside its layer"
                    );
                }
                assert!(end <= contents.size, "data after the end");
            }
            Kind::File(..) => panic!("a file from elsewhere"),
            Kind::Symlink(target) => assert!(!target.is_empty() && !target.contains(&0)),
            Kind::Directory(_) => check(tree, id, depth + 1, length),
            _ => {}
        }
    }
}

/// A manifest whose configuration is there, or a configuration whose manifest is.
pub fn manifest(bytes: &[u8]) {
    let mut files = Files::new();
    let bytes = match bytes.split_first() {
        Some((0, config)) => {
            let config = files.add(config, MediaType::ImageConfig);
            files.manifest(&config)
        }
        _ => bytes.to_vec(),
    };
    let start = files.add(&bytes, MediaType::ImageManifest);
    drop(files.repository().resolve(&start, None).map(|found| {
        assert_eq!(found.digest, Digest::of(&bytes));
    }));
}

/// An index: that of a layout, and one that an index names.
pub fn index(bytes: &[u8]) {
    let mut files = Files::new();
    let start = files.add(bytes, MediaType::ImageIndex);
    drop(files.repository().resolve(&start, None));
    files.0.insert(
        "oci-layout".to_owned(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    );
    files.0.insert("index.json".to_owned(), bytes.to_vec());
    let registry = RegistryOptions {
        insecure: false,
        mirrors: Vec::new(),
        timeout: Duration::from_secs(1),
        cache: None,
    };
    let options = Options {
        platform: None,
        limits: &LIMITS,
        scratch: Path::new("/nonexistent"),
        registry: &registry,
    };
    drop(image::layout(
        Arc::new(files),
        &Selection::default(),
        &options,
    ));
}

/// A recipe.
pub fn recipe(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        drop(Recipe::parse(text, Path::new("/recipes")));
    }
}

/// Documents in memory, with a configuration and a manifest that are in order.
#[derive(Clone)]
struct Files(HashMap<String, Vec<u8>>);

impl Files {
    fn new() -> Self {
        let mut files = Self(HashMap::new());
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"").to_string()]},
        });
        let config = files.add(config.to_string().as_bytes(), MediaType::ImageConfig);
        let manifest = files.manifest(&config);
        files.add(&manifest, MediaType::ImageManifest);
        files
    }

    fn add(&mut self, bytes: &[u8], media_type: MediaType) -> Descriptor {
        self.0.insert(blob(&Digest::of(bytes)), bytes.to_vec());
        registry::descriptor(&media_type.to_string(), bytes)
    }

    fn manifest(&self, config: &Descriptor) -> Vec<u8> {
        let layer = registry::descriptor(&MediaType::ImageLayer.to_string(), b"");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        manifest.to_string().into_bytes()
    }

    fn repository(&self) -> Repository {
        Repository {
            store: Arc::new(self.clone()),
            manifest_name: blob,
            blob_name: blob,
        }
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Store for Files {
    fn open(&self, name: &str) -> io::Result<Content> {
        let bytes = self.0.get(name).ok_or(io::ErrorKind::NotFound)?.clone();
        let length = bytes.len() as u64;
        Ok((Box::new(io::Cursor::new(bytes)), Some(length)))
    }
}
