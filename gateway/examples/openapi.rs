//! Writes `gateway/openapi.json`: `make openapi`.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    fs::write(file, format!("{:#}\n", gateway::openapi::document()))
}
