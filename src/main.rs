//! The `pixchute` command.

use std::process::ExitCode;

/// Attempts allocate on one thread what another one frees, some hundred kilobytes at a time. The system's allocator gives
/// such memory back and gets it anew, page by page: measured, files of 200 KB cost three times the processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pixchute::cli::main()
}
