//! Compiles in what the extension is built from; see `src/provenance.rs`.

use std::path::Path;
use std::{fs, io};

mod sources;

fn main() -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Not the directory itself: the compiler's own output may lie in it.
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if sources::is_source(&path) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    println!(
        "cargo::rustc-env=CITYCHAIN_SOURCES={}",
        sources::digest(directory)?
    );
    Ok(())
}
