//! The fingerprint of a text, as it stands in records and in the names of dedup keys.

use sha2::{Digest, Sha256};

/// SHA-256, hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
