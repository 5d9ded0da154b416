//! Takes the text out of one file, under bounds that it sets itself; see `core_service::documents::extract`.

use std::process::ExitCode;

fn main() -> ExitCode {
    core_service::documents::extract::child::main()
}
