//! The binary `studios`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    studios_cli::run().await.into()
}
