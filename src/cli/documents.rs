//! Job documents of a file or of standard input: an object, an array, JSON Lines, of any size.
//!
//! Reads and splits; the caller judges the content of a document. Holds one document at a time.

use std::io::Read;
use std::path::Path;

use super::error::CliError;
use crate::job::Problem;
use crate::job::parse::split::{Piece, Splitter};

/// True for the name of standard input.
pub(super) fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Visits each document of a file. What keeps the file from being read further is given back.
///
/// # Errors
/// The visitor's.
pub(super) fn each(
    file: &Path,
    visit: &mut dyn FnMut(Piece) -> Result<(), CliError>,
) -> Result<Result<(), Problem>, CliError> {
    let mut input = match open(file) {
        Ok(input) => input,
        Err(problem) => return Ok(Err(problem)),
    };
    let mut splitter = Splitter::default();
    let mut part = vec![0; 64 << 10];
    let mut pieces = Vec::new();
    loop {
        let length = match input.read(&mut part) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(Problem::at(1, 1, format!("error reading: {error}")))),
        };
        splitter.push(part.get(..length).unwrap_or_default(), &mut pieces);
        for piece in pieces.drain(..) {
            visit(piece)?;
        }
        if length == 0 {
            break;
        }
    }
    splitter.finish(&mut pieces);
    pieces.into_iter().try_for_each(visit)?;
    Ok(Ok(()))
}

fn open(file: &Path) -> Result<Box<dyn Read>, Problem> {
    if is_stdin(file) {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let opened = std::fs::File::open(file).and_then(|opened| Ok((opened.metadata()?.is_dir(), opened)));
    match opened {
        Ok((false, opened)) => Ok(Box::new(opened)),
        Ok((true, _)) => {
            let here = file.display();
            Err(Problem::at(1, 1, "this is a directory").expected(format!("files, as {here}/*.json")))
        }
        Err(error) => Err(Problem::at(1, 1, format!("error opening: {error}"))),
    }
}
