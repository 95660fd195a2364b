//! Any bytes as a journal and as a line of a record: what is read can be written and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for line in engine::store::journal::parse(bytes) {
        let mut text = serde_json::to_vec(&line).unwrap();
        text.push(b'\n');
        assert_eq!(engine::store::journal::parse(&text).next(), Some(line));
    }
    let id = engine::job::JobId::new("a").unwrap();
    if let Ok(record) = engine::store::record::parse(bytes, Path::new("f"), &id) {
        let text = serde_json::to_vec(&record.line).unwrap();
        engine::store::record::parse(&text, Path::new("f"), &id).unwrap();
    }
});
