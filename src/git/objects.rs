//! Objects of git, made without a process: their names, trees of an index, and the files that git reads them from.
//!
//! Responsible for git's formats of objects and of the index extension `TREE`. Names are git's: SHA-1 or SHA-256 by the
//! repository. Hard rule: no judgement rests on SHA-1 alone; evidence names the content of a file by SHA-256 too.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::index::{Entries, Entry, hexadecimal};

/// The most that a block of bytes holds that is not compressed.
const MAX_BLOCK: usize = 0xffff;

/// The tree of an index.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Its name.
    pub id: Vec<u8>,
    /// Its content.
    pub body: Vec<u8>,
    /// The extension `TREE` of the index: the names of this tree and those below it.
    pub extension: Vec<u8>,
}

/// The name of an object, as long as those of the repository.
#[must_use]
pub(crate) fn id(kind: &str, body: &[u8], hash: usize) -> Vec<u8> {
    let whole = [format!("{kind} {}\0", body.len()).as_bytes(), body].concat();
    if hash == 32 { Sha256::digest(&whole).to_vec() } else { Sha1::digest(&whole).to_vec() }
}

/// The file of an object in a git directory: its name, and zlib's format without compression.
#[must_use]
pub(crate) fn file(kind: &str, body: &[u8], id: &[u8]) -> (String, Vec<u8>) {
    let whole = [format!("{kind} {}\0", body.len()).as_bytes(), body].concat();
    let mut bytes = vec![0x78, 0x01];
    let blocks = whole.len().div_ceil(MAX_BLOCK);
    for (at, block) in whole.chunks(MAX_BLOCK).enumerate() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        bytes.push(u8::from(at + 1 == blocks));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(!length).to_le_bytes());
        bytes.extend_from_slice(block);
    }
    bytes.extend_from_slice(&adler32(&whole).to_be_bytes());
    let name = hexadecimal(id);
    let (dir, rest) = name.split_at_checked(2).unwrap_or_default();
    (format!("objects/{dir}/{rest}"), bytes)
}

/// The tree of these entries.
#[must_use]
pub(crate) fn tree(entries: &Entries, hash: usize) -> Tree {
    let all: Vec<(&[u8], &Entry)> = entries.iter().map(|(path, entry)| (path.as_slice(), entry)).collect();
    below(&all, (b"", 0), hash)
}

/// The files of a git directory whose HEAD is a commit of this tree.
#[must_use]
pub(crate) fn commit(tree: &Tree, hash: usize) -> Vec<(String, Vec<u8>)> {
    let name = hexadecimal(&tree.id);
    let text = format!("tree {name}\nauthor engine <> 0 +0000\ncommitter engine <> 0 +0000\n\n");
    let id = id("commit", text.as_bytes(), hash);
    let head = format!("{}\n", hexadecimal(&id));
    vec![
        file("tree", &tree.body, &tree.id),
        file("commit", text.as_bytes(), &id),
        ("HEAD".to_owned(), head.into_bytes()),
    ]
}

/// The tree of the entries below a directory, whose paths all begin with so many bytes.
fn below(entries: &[(&[u8], &Entry)], (name, prefix): (&[u8], usize), hash: usize) -> Tree {
    let (mut body, mut inner, mut count) = (Vec::new(), Vec::new(), 0u32);
    let mut rest = entries;
    while let Some((path, entry)) = rest.first() {
        let own = path.get(prefix..).unwrap_or_default();
        let Some(slash) = memchr::memchr(b'/', own) else {
            add(&mut body, entry.mode, own, &entry.object);
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        let (dir, start) = (own.get(..slash).unwrap_or_default(), path.get(..=prefix + slash));
        let inside = rest.iter().take_while(|(path, _)| path.get(..=prefix + slash) == start).count();
        let (these, others) = rest.split_at(inside);
        let tree = below(these, (dir, prefix + slash + 1), hash);
        add(&mut body, 0o40_000, dir, &tree.id);
        inner.extend_from_slice(&tree.extension);
        count += 1;
        rest = others;
    }
    let id = id("tree", &body, hash);
    let mut extension = [name, format!("\0{} {count}\n", entries.len()).as_bytes(), &id].concat();
    extension.extend(inner);
    Tree { id, body, extension }
}

fn add(body: &mut Vec<u8>, mode: u32, name: &[u8], id: &[u8]) {
    body.extend_from_slice(format!("{mode:o} ").as_bytes());
    body.extend_from_slice(name);
    body.push(0);
    body.extend_from_slice(id);
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut one, mut two) = (1u32, 0u32);
    // So many fit into 32 bits before the remainder must be taken.
    for chunk in bytes.chunks(5_552) {
        for byte in chunk {
            one += u32::from(*byte);
            two += one;
        }
        (one, two) = (one % 65_521, two % 65_521);
    }
    (two << 16) | one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_git() {
        assert_eq!(hexadecimal(&id("blob", b"", 20)), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(hexadecimal(&id("tree", b"", 20)), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        // Lengths around those whose padding needs a block of its own.
        for (length, name) in [
            (46, "1d98a4e287acc725ef6f635b729014f7d49148da"),
            (47, "719ddd7888a02660234770b651274214ff7df239"),
            (48, "3b3abca28de4b8ce6ea9dac5da512120ed7c5a0c"),
            (1_000, "14c7dfdd4258dec5c0e9d2e919bd249bd674be1f"),
        ] {
            assert_eq!(hexadecimal(&id("blob", "x".repeat(length).as_bytes(), 20)), name);
        }
        assert_eq!(id("blob", b"", 32).len(), 32);
    }

    #[test]
    fn the_sum_of_zlib_is_right_for_more_than_it_can_add_at_once() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(&[0xff; 20_000]), 0x9f51_d664);
    }
}
