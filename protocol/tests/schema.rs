//! The published JSON Schema of the sandbox config is what the types say.
//!
//! After a change of `protocol::sandbox`: `HUSK_WRITE_SCHEMA=1 cargo test -p protocol --test schema`.

use std::path::Path;

use protocol::sandbox::SandboxConfig;

const FILE: &str = "../docs/sandbox.schema.json";

#[test]
fn the_published_schema_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let schema = schemars::schema_for!(SandboxConfig);
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("HUSK_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap();
    assert!(
        published == text,
        "run HUSK_WRITE_SCHEMA=1 cargo test -p protocol --test schema"
    );
}

/// Every example of docs/config.md is a config.
#[test]
fn the_documented_examples_are_configs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut examples = 0;
    for block in text.split("```json\n").skip(1) {
        let example = block.split("```").next().unwrap();
        if let Err(error) = serde_json::from_str::<SandboxConfig>(example) {
            panic!("{error} in\n{example}");
        }
        examples += 1;
    }
    assert!(examples >= 3, "{examples} examples");
}
