//! The form of an archive file: a row of zstd frames, one for each batch, of record lines as they were; `zstdcat` reads it.
//!
//! A skippable frame of 24 bytes precedes each frame with the frame's length, so that a frame that a crash has torn is known
//! without unpacking anything. Hard rule: what does not begin as a frame of ours is left as it is.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::fs::{self, FsError, holes};
use crate::store::{Result, StoreError};

/// Magic number of a skippable frame, its length, and a word of ours: the header of each frame's length.
const HEAD: [u8; 16] = *b"\x5e\x2a\x4d\x18\x10\x00\x00\x00engine 1";
const HEADER: u64 = 24;
/// So many bytes before an offset tell whether a file is the one that it is taken for.
const CHECKED: u64 = 512;

/// How an archive file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a whole frame, at this length.
    Clean(u64),
    /// With a part of a frame from this offset on: a crash in the middle of an append.
    Torn(u64),
    /// With something else from this offset on.
    Foreign(u64),
}

/// A header and a frame. What was packed is unpacked again at once: the records are removed because of it.
pub(super) fn encode(lines: &[u8]) -> Vec<u8> {
    let mut frame = compress_to_vec(lines, CompressionLevel::Fastest);
    if decode(&frame).is_none_or(|unpacked| unpacked != lines) {
        frame = compress_to_vec(lines, CompressionLevel::Uncompressed);
    }
    let mut bytes = HEAD.to_vec();
    bytes.extend((frame.len() as u64).to_le_bytes());
    bytes.extend(frame);
    bytes
}

/// Unpacks a frame; `None` if it is damaged.
fn decode(frame: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = StreamingDecoder::new(frame).ok()?;
    let mut lines = Vec::new();
    decoder.read_to_end(&mut lines).ok()?;
    let decoder = decoder.into_frame_decoder();
    (decoder.get_checksum_from_data() == decoder.get_calculated_checksum()).then_some(lines)
}

/// Offset and length of each whole frame, and how the file ends.
pub(super) fn walk(file: &File, path: &Path) -> Result<(Vec<(u64, u64)>, End)> {
    let error = |source| FsError { action: "reading", path: path.to_path_buf(), source };
    let size = file.metadata().map_err(error)?.len();
    let mut frames = Vec::new();
    let mut at = 0;
    while at < size {
        let mut header = [0; HEADER as usize];
        let room = usize::try_from(HEADER.min(size - at)).unwrap_or(0);
        let here = header.get_mut(..room).unwrap_or_default();
        file.read_exact_at(here, at).map_err(error)?;
        let known = room.min(HEAD.len());
        if here.iter().all(|byte| *byte == 0) && is_zero_from(file, at, size).map_err(error)? {
            // A power loss kept the length of an append and lost its data.
            return Ok((frames, End::Torn(at)));
        }
        if here.get(..known) != HEAD.get(..known) {
            return Ok((frames, End::Foreign(at)));
        }
        let length = header.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let end = (at + HEADER).saturating_add(length);
        if size < at + HEADER || size < end {
            return Ok((frames, End::Torn(at)));
        }
        frames.push((at + HEADER, length));
        at = end;
    }
    Ok((frames, End::Clean(at)))
}

fn is_zero_from(file: &File, mut at: u64, size: u64) -> io::Result<bool> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut buffer = ZEROS;
    while at < size {
        at = holes::next_data(file, at);
        let length = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact_at(part, at)?;
        // Whole pieces are compared, which a damaged file of gigabytes makes worth it.
        if ZEROS.get(..length) != Some(&*part) {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}

pub(super) fn cut_torn_end(file: &File, path: &Path) -> Result<u64> {
    match walk(file, path)?.1 {
        End::Clean(end) => Ok(end),
        End::Torn(end) => {
            fs::truncate(file, path, end)?;
            Ok(end)
        }
        End::Foreign(at) => Err(foreign(path, at)),
    }
}

fn foreign(path: &Path, at: u64) -> StoreError {
    let problem =
        format!("from byte {at} on the engine did not write it; move it aside and run `engine gc` again");
    StoreError::Unreadable { path: path.to_path_buf(), problem }
}

/// The whole frames of one archive file.
pub(in crate::store) struct Frames<'a> {
    pub(super) path: &'a Path,
    file: File,
    /// Offset and length of each.
    pub(super) frames: Vec<(u64, u64)>,
    pub(super) ends: End,
}

impl<'a> Frames<'a> {
    /// Finds them without unpacking any; none if there is no such file.
    pub(in crate::store) fn open(path: &'a Path) -> Result<Option<Self>> {
        let file = match fs::open_regular(path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (frames, ends) = walk(&file, path)?;
        Ok(Some(Self { path, file, frames, ends }))
    }

    fn reading(&self, source: io::Error) -> StoreError {
        FsError { action: "reading", path: self.path.to_path_buf(), source }.into()
    }

    /// Where the last whole frame ends.
    pub(in crate::store) fn end(&self) -> u64 {
        self.frames.last().map_or(0, |(at, length)| at + length)
    }

    pub(in crate::store) fn inode(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|error| self.reading(error))?.ino())
    }

    /// Some bytes before an offset.
    pub(in crate::store) fn before(&self, end: u64) -> Result<Vec<u8>> {
        let length = end.min(CHECKED);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = self.file.read_exact_at(&mut bytes, end - length);
        read.map_err(|error| self.reading(error))?;
        Ok(bytes)
    }

    /// Unpacks one; none if it is damaged.
    pub(super) fn unpack(&self, (at, length): (u64, u64)) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut frame, at).map_err(|error| self.reading(error))?;
        Ok(decode(&frame))
    }

    /// Unpacks one; what is damaged is traced.
    pub(super) fn lines(&self, frame: (u64, u64)) -> Result<Option<Vec<u8>>> {
        let lines = self.unpack(frame)?;
        if lines.is_none() {
            let at = frame.0;
            tracing::warn!("`{}` is damaged at byte {at}: these records cannot be read", self.path.display());
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file.as_file(), bytes).unwrap();
        file
    }

    fn end_of(bytes: &[u8]) -> (usize, End) {
        let file = file_with(bytes);
        let (frames, end) = walk(file.as_file(), file.path()).unwrap();
        (frames.len(), end)
    }

    #[test]
    fn what_was_packed_is_unpacked_whole() {
        for lines in [&b""[..], b"one\n", &b"{\"a\":1}\n".repeat(50_000)] {
            let packed = encode(lines);
            assert_eq!(decode(&packed[24..]).unwrap(), lines);
        }
    }

    #[test]
    fn a_frame_torn_at_any_byte_is_known_and_the_one_before_is_kept() {
        let one = encode(b"one\n");
        let mut two = one.clone();
        two.extend(encode(b"two\n"));
        assert_eq!(end_of(&two), (2, End::Clean(two.len() as u64)));
        for length in one.len() + 1..two.len() {
            assert_eq!(end_of(&two[..length]), (1, End::Torn(one.len() as u64)), "{length}");
        }
        assert_eq!(end_of(&one), (1, End::Clean(one.len() as u64)));
        assert_eq!(end_of(b""), (0, End::Clean(0)));
    }

    #[test]
    fn what_is_not_ours_is_not_taken_for_a_torn_frame() {
        let mut bytes = encode(b"one\n");
        let end = bytes.len() as u64;
        bytes.extend(b"something else");
        assert_eq!(end_of(&bytes), (1, End::Foreign(end)));
        let file = file_with(&bytes);
        assert!(cut_torn_end(file.as_file(), file.path()).is_err());
        assert_eq!(std::fs::read(file.path()).unwrap(), bytes, "nothing was cut");
    }

    #[test]
    fn a_flipped_bit_is_seen_and_does_not_hide_the_next_frame() {
        let mut bytes = encode(&b"{\"a\":1}\n".repeat(100));
        let at = bytes.len() - 6;
        bytes[at] ^= 1;
        bytes.extend(encode(b"two\n"));
        let file = file_with(&bytes);
        let frames = Frames::open(file.path()).unwrap().unwrap();
        let found: Vec<_> = frames.frames.iter().map(|frame| frames.unpack(*frame).unwrap()).collect();
        assert_eq!(found, [None, Some(b"two\n".to_vec())]);
    }
}
