//! `engine init`: makes a root.

use super::args::{Global, InitArgs};
use super::error::CliError;
use super::{current_dir, print};
use crate::store::{Store, root};

/// Makes a root in the given directory; one that is there is completed.
pub fn run(args: &InitArgs, global: &Global) -> Result<u8, CliError> {
    let dir = current_dir()?.join(&args.dir);
    let is_new = root::create(&dir)?;
    let store = Store::open_to_change(&dir)?;
    let what = if is_new { "made the root" } else { "there is already a root at" };
    if !global.quiet {
        print::note(&format!("{what} {}", store.root().display()));
    }
    Ok(0)
}
