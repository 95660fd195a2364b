//! Passing over the holes of a file: nothing was ever written there, and to read one fills the memory of the kernel with zeros.
//!
//! Moves the offset of the open file, so the caller reads at positions, or seeks anew. A file system that does not report
//! holes has none.

use std::fs::File;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// So many stretches of data are looked at; a file of ours has one.
const MOST_STRETCHES: usize = 1000;

/// The first position from `at` on where there is data, or the end of the file.
#[must_use]
pub(crate) fn next_data(file: &File, at: u64) -> u64 {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => data,
        Err(Errno::NXIO) => file.metadata().map_or(at, |metadata| metadata.len().max(at)),
        Err(_) => at,
    }
}

/// The last position up to `end` before which there is data, or 0.
#[must_use]
pub(crate) fn end_of_data(file: &File, end: u64) -> u64 {
    let (mut found, mut at) = (0, 0);
    for _ in 0..MOST_STRETCHES {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) if data < end => data,
            Ok(_) | Err(Errno::NXIO) => return found,
            Err(_) => return end,
        };
        match seek(file, SeekFrom::Hole(data)) {
            Ok(hole) if hole < end => (found, at) = (hole, hole),
            _ => return end,
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_passed_over_in_both_directions() {
        let file = tempfile::tempfile().unwrap();
        let write = |at| std::os::unix::fs::FileExt::write_all_at(&file, b"data", at).unwrap();
        write(1 << 20);
        write(3 << 20);
        file.set_len(5 << 20).unwrap();
        let sees_holes = next_data(&file, 0) > 0;
        // Stretches begin and end with blocks of the file system.
        let near = |found: u64, at: u64| found.abs_diff(at) <= 64 << 10;
        assert!(!sees_holes || near(next_data(&file, 0), 1 << 20));
        assert!(!sees_holes || near(next_data(&file, 2 << 20), 3 << 20));
        assert!(!sees_holes || next_data(&file, 4 << 20) == 5 << 20);
        assert!(!sees_holes || near(end_of_data(&file, 5 << 20), 3 << 20));
        assert!(!sees_holes || near(end_of_data(&file, 2 << 20), 1 << 20));
        assert_eq!(next_data(&file, 1 << 20), 1 << 20);
        assert_eq!(end_of_data(&file, (3 << 20) + 2), (3 << 20) + 2);
    }
}
