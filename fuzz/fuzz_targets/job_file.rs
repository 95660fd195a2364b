//! Any bytes as a job file: an answer, never a panic, and problems that have a place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(problems) = engine::job::parse_job(bytes, "f") {
        assert!(!problems.problems.is_empty());
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        for problem in &problems.problems {
            assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem:?}");
            assert!(!problem.message.starts_with("internal"), "{problem:?}");
        }
    }
});
