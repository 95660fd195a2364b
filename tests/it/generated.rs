//! Files that are made from the code are committed and current.

use std::path::Path;

/// Compares a committed file with what the code makes; `ENGINE_UPDATE=1 cargo test generated` writes it.
fn is_current(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("ENGINE_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{} is not current: run `ENGINE_UPDATE=1 cargo test generated`", path.display());
}

#[test]
fn generated_schemas_are_current() {
    is_current("schema/jobs/job.schema.json", &engine::job::schema::generate::<engine::job::JobFile>());
}
