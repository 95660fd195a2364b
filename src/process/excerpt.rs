//! The head and the tail of a stream, in bounded memory.

/// Keeps the first and the last bytes of what it is given.
#[derive(Debug)]
pub(crate) struct Excerpt {
    head: Vec<u8>,
    tail: Vec<u8>,
    head_limit: usize,
    tail_limit: usize,
    total: u64,
}

/// How much of a stream is kept for the adapter's reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Bytes from the start.
    pub head: usize,
    /// Bytes up to the end.
    pub tail: usize,
}

impl Keep {
    /// Enough for the lines of a preview.
    pub(crate) const PREVIEW: Self = Self { head: 16 << 10, tail: 16 << 10 };
}

impl Excerpt {
    /// Starts a stream.
    #[must_use]
    pub(crate) fn new(keep: Keep) -> Self {
        Self { head: Vec::new(), tail: Vec::new(), head_limit: keep.head, tail_limit: keep.tail, total: 0 }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.head_limit - self.head.len();
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        if rest.len() >= self.tail_limit {
            self.tail.clear();
            self.tail.extend_from_slice(rest.get(rest.len() - self.tail_limit..).unwrap_or_default());
            return;
        }
        self.tail.extend_from_slice(rest);
        // Cut only when twice as much is there, so that each byte is moved once on average.
        if self.tail.len() > 2 * self.tail_limit {
            self.tail.drain(..self.tail.len() - self.tail_limit);
        }
    }

    /// How many bytes were given.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The whole stream, if all of it was kept.
    #[must_use]
    pub(crate) fn whole(&self) -> Option<Vec<u8>> {
        if self.left_out() > 0 {
            return None;
        }
        Some([self.head.as_slice(), self.tail.as_slice()].concat())
    }

    /// The kept bytes up to the end of the stream: all of them, if nothing was left out.
    #[must_use]
    pub(crate) fn ending(&self) -> Vec<u8> {
        self.whole().unwrap_or_else(|| self.tail.clone())
    }

    fn left_out(&self) -> u64 {
        self.total - (self.head.len() + self.tail.len()) as u64
    }

    /// Head and tail as text of at most `lines` lines and `bytes` bytes, with a mark where something is left out.
    #[must_use]
    pub(crate) fn preview(&self, lines: usize, bytes: usize) -> String {
        let half = lines / 2;
        if let Some(whole) = self.whole() {
            let text = String::from_utf8_lossy(&whole).into_owned();
            let count = text.lines().count();
            if count <= lines {
                return crate::job::result::shorten(&text, bytes);
            }
            let skipped = count - 2 * half;
            let head: Vec<&str> = text.lines().take(half).collect();
            let tail: Vec<&str> = text.lines().skip(half + skipped).collect();
            let text =
                format!("{}\n[engine: {skipped} lines left out]\n{}\n", head.join("\n"), tail.join("\n"));
            return crate::job::result::shorten(&text, bytes);
        }
        let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&self.tail));
        let first: Vec<&str> = head.lines().take(half).collect();
        let count = tail.lines().count();
        let last: Vec<&str> = tail.lines().skip(count.saturating_sub(half)).collect();
        let total = self.total;
        let text =
            format!("{}\n[engine: cut, {total} bytes in all]\n{}\n", first.join("\n"), last.join("\n"));
        crate::job::result::shorten(&text, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_stream_is_kept_whole() {
        let mut excerpt = Excerpt::new(Keep { head: 4, tail: 4 });
        for bytes in [b"ab".as_slice(), b"cdef", b"gh"] {
            excerpt.push(bytes);
        }
        assert_eq!(excerpt.whole().unwrap(), b"abcdefgh");
    }

    #[test]
    fn of_a_long_stream_head_and_tail_are_kept_in_bounded_memory() {
        let mut excerpt = Excerpt::new(Keep { head: 4, tail: 4 });
        for n in 0..1000u32 {
            excerpt.push(&n.to_be_bytes());
            assert!(excerpt.tail.len() <= 8);
        }
        excerpt.push(b"0123456789");
        assert_eq!(
            (excerpt.head.as_slice(), excerpt.ending().as_slice()),
            ([0; 4].as_slice(), b"6789".as_slice())
        );
        assert_eq!(excerpt.total(), 4010);
    }

    #[test]
    fn a_preview_has_at_most_its_lines_and_says_what_is_missing() {
        let mut excerpt = Excerpt::new(Keep::PREVIEW);
        for n in 0..300 {
            excerpt.push(format!("line {n}\n").as_bytes());
        }
        let preview = excerpt.preview(100, 8192);
        assert_eq!(preview.lines().count(), 101);
        assert!(preview.starts_with("line 0\n") && preview.ends_with("line 299\n"));
        assert!(preview.contains("[engine: 200 lines left out]"));
    }
}
