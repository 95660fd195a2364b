//! The `engine` program; everything is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    engine::cli::main()
}
