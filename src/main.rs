//! The `pixchute` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    pixchute::cli::main()
}
