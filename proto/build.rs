//! Compiles the contracts with protox, so that no protoc has to be installed.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo:rerun-if-changed=studios");
    let mut files = Vec::new();
    for package in ["studios/core/v1", "studios/execution/v1"] {
        for entry in fs::read_dir(root.join(package))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?;
    // protox's own encoding keeps custom options, which a re-encoded prost set would lose.
    let set = PathBuf::from(env::var("OUT_DIR")?).join("studios.binpb");
    fs::write(set, compiler.encode_file_descriptor_set())?;

    let mut config = prost_build::Config::new();
    config.enable_type_names();
    // Ordered, so that equal messages encode to equal bytes: request ids compare hashes of them.
    config.btree_map(["."]);
    // Files' bytes pass through without being copied.
    config.bytes([
        ".studios.core.v1.UploadFileRequest.data",
        ".studios.core.v1.WriteUploadRequest.data",
        ".studios.core.v1.DownloadFileResponse.data",
        ".studios.core.v1.DownloadExportResponse.data",
        ".studios.core.v1.SubmitExportRequest.lines",
    ]);
    tonic_prost_build::configure().compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
