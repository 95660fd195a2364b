//! `state/boot`: which boot of each machine recovered this root last.
//!
//! On a file system that may lose a move in a power loss a job can be left with an open record and no file: only a look
//! at every record finds it, and that is done once after each boot. It decides nothing else.

use std::collections::BTreeMap;

use super::{Result, Store, json_line};
use crate::fs::{self, Ordering};

type Boots = BTreeMap<String, String>;

/// True if every record must be looked at: the first time after a boot, where the file system does not keep moves in order.
pub(crate) fn needs_a_look_at_every_record(store: &Store) -> Result<bool> {
    let known = read(store)?.get(&store.identity.host) == Some(&store.identity.boot_id);
    Ok(store.ordering == Ordering::Unknown && !known)
}

/// Remembers that this boot has recovered the root.
pub(crate) fn remember(store: &Store) -> Result<()> {
    let mut boots = read(store)?;
    let identity = &store.identity;
    if boots.get(&identity.host) == Some(&identity.boot_id) {
        return Ok(());
    }
    boots.insert(identity.host.clone(), identity.boot_id.clone());
    let path = store.state("boot");
    Ok(fs::replace(&path, &json_line(&path, &boots)?)?)
}

/// What is there; a file that cannot be understood says nothing.
fn read(store: &Store) -> Result<Boots> {
    let path = store.state("boot");
    let file = match fs::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(Boots::new()),
        Err(error) => return Err(error.into()),
    };
    let bytes = fs::read_limited(&file, &path, 1 << 20)?.unwrap_or_default();
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::root;

    fn store(dir: &std::path::Path) -> Store {
        root::create(dir).unwrap();
        Store::open_to_change(dir).unwrap()
    }

    #[test]
    fn another_boot_is_noticed_once_and_another_machine_s_boot_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(&dir.path().join("root"));
        store.ordering = Ordering::Unknown;
        assert!(needs_a_look_at_every_record(&store).unwrap());
        remember(&store).unwrap();
        assert!(!needs_a_look_at_every_record(&store).unwrap());
        let here = store.identity.clone();
        store.identity.host = "elsewhere".into();
        assert!(needs_a_look_at_every_record(&store).unwrap());
        remember(&store).unwrap();
        store.identity = here;
        assert!(!needs_a_look_at_every_record(&store).unwrap());
        store.identity.boot_id = "later".into();
        assert!(needs_a_look_at_every_record(&store).unwrap());
        store.ordering = Ordering::Journaled;
        assert!(!needs_a_look_at_every_record(&store).unwrap());
    }

    #[test]
    fn a_torn_file_says_nothing_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(&dir.path().join("root"));
        store.ordering = Ordering::Unknown;
        drop(fs::create_new(&store.state("boot"), b"{\"ho").unwrap());
        assert!(needs_a_look_at_every_record(&store).unwrap());
        remember(&store).unwrap();
        assert!(!needs_a_look_at_every_record(&store).unwrap());
    }
}
