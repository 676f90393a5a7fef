//! Compiles `proto/` to messages, clients, servers and the descriptor set for reflection, without protoc.

use std::{env, error::Error, fs, path::Path};

const ROOTS: [&str; 6] = [
    "original/user_service.proto",
    "parlance/error/v1/error_reason.proto",
    "parlance/user/v1/user_service.proto",
    "parlance/message/v1/conversation_service.proto",
    "parlance/message/v1/message_service.proto",
    "google/rpc/error_details.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = env::var("OUT_DIR")?;

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(ROOTS)?;
    let files = compiler.file_descriptor_set();
    // Encoded by the compiler: re-encoding the descriptor set with prost would lose custom options.
    fs::write(Path::new(&out).join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        // Streams are served from shared, pre-encoded frames, so their methods have no generated handler.
        .generate_default_stubs(true)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .btree_map(".")
        .compile_fds(files)?;
    Ok(())
}
