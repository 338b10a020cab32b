//! Compiles in what the extension is built from; see `src/provenance.rs`.

use std::path::PathBuf;
use std::{env, fs, io};

mod sources;

fn main() -> io::Result<()> {
    // As told now, not when this was compiled: cargo runs it for another checkout, too, where both
    // share a target folder.
    let directory = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    // Not the directory itself: the compiler's own output may lie in it.
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        if sources::is_source(&path) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    println!(
        "cargo::rustc-env=CITYCHAIN_SOURCES={}",
        sources::digest(&directory)?
    );
    Ok(())
}
