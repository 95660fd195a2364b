//! The price table of a root: the built-in one, with `prices.json` of the root over it.

use std::path::Path;

use super::{Result, StoreError};
use crate::cost::prices::PriceTable;
use crate::fs;

/// Reads the prices that hold for a root.
///
/// # Errors
/// `Unreadable` if the root's file is not a price table; file system errors, above all if it is not a regular file.
pub(crate) fn read(root: &Path) -> Result<PriceTable> {
    let path = root.join("prices.json");
    let file = match fs::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(PriceTable::built_in().clone()),
        Err(error) => return Err(error.into()),
    };
    let unreadable = |problem: String| StoreError::Unreadable { path: path.clone(), problem };
    let bytes = fs::read_limited(&file, &path, 1 << 20)?
        .ok_or_else(|| unreadable("it is larger than 1 MiB".to_owned()))?;
    let own = PriceTable::parse(&bytes, "prices.json").map_err(|error| unreadable(error.problem))?;
    Ok(PriceTable::built_in().overridden_by(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::usage::Tokens;

    #[test]
    fn a_root_overrides_the_built_in_prices_and_a_wrong_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let used = Tokens { input_tokens: Some(1_000_000), output_tokens: Some(0), ..Tokens::default() };
        let source = || read(dir.path()).map(|table| table.cost("gpt-5", &used).unwrap().source);
        assert_eq!(source().unwrap(), "built-in:gpt-5:2026-02-05");
        let path = dir.path().join("prices.json");
        let text = r#"{"table": "mine", "date": "2026-11-01", "source": "me",
            "models": {"gpt-5": {"input_usd_per_million": 1, "output_usd_per_million": 1}}}"#;
        fs::create_new(&path, text.as_bytes()).unwrap();
        assert_eq!(source().unwrap(), "mine:gpt-5:2026-11-01");
        fs::remove(&path).unwrap();
        fs::create_new(&path, b"{}").unwrap();
        let error = source().unwrap_err().to_string();
        assert!(error.contains("prices.json`: missing field"), "{error}");
        fs::remove(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(source().is_err());
    }
}
