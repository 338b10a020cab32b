//! What the extension is built from: a digest of every source below `native/`.
//!
//! The build script compiles it in, and the extension computes it again when it is loaded from a
//! source tree; this module is part of both, so that they agree.

use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// Folders that hold no source of the extension, wherever they stand.
const OTHER: [&str; 5] = ["target", "fuzz", "tests", "examples", "benches"];
const SOURCES: [&str; 5] = ["rs", "c", "h", "toml", "lock"];

/// Returns the digest of the sources below `directory`: names and contents, no times.
pub fn digest(directory: &Path) -> io::Result<String> {
    let mut paths = Vec::new();
    collect(directory, &mut paths)?;
    paths.sort();
    // Not for security: it tells one's own versions apart. Its algorithm is the compiler's, and so
    // the same in a build script and in what is built.
    let mut hasher = DefaultHasher::new();
    for path in paths {
        let name = path.strip_prefix(directory).unwrap_or(&path);
        for part in [name.to_string_lossy().as_bytes(), &fs::read(&path)?] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if !is_source(&path) {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// Whether a file, or what a folder holds, goes into the extension.
pub fn is_source(path: &Path) -> bool {
    let is = |part: Option<&OsStr>, list: &[&str]| list.iter().any(|it| part == Some(it.as_ref()));
    if path.is_dir() {
        let hidden = path
            .file_name()
            .is_some_and(|it| it.as_encoded_bytes().starts_with(b"."));
        !hidden && !is(path.file_name(), &OTHER)
    } else {
        is(path.extension(), &SOURCES)
    }
}
