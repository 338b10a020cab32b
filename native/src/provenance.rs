//! Refuses to be loaded in a source tree whose Rust has changed since.
//!
//! An editable install leaves the extension in the tree, and Python takes what stands there: after
//! an edit or a checkout without a new build it would run yesterday's code under today's Python,
//! without a word. An installed extension has no sources beside it, and nothing is checked.

use std::fs;
use std::path::Path;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

#[path = "../sources.rs"]
mod sources;

/// Checks the extension at `module` against the sources of the tree that it lies in, if any.
///
/// # Errors
/// `ImportError` where it was built from others.
pub fn check(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let file: String = module.getattr("__file__")?.extract()?;
    // <tree>/citychain/_native.abi3.so
    let Some(tree) = Path::new(&file).parent().and_then(Path::parent) else {
        return Ok(());
    };
    let native = tree.join("native");
    if !fs::read_to_string(native.join("Cargo.toml"))
        .is_ok_and(|it| it.contains("citychain-native"))
    {
        return Ok(());
    }
    if sources::digest(&native)? == env!("CITYCHAIN_SOURCES") {
        return Ok(());
    }
    Err(PyImportError::new_err(format!(
        "{file} was built from other sources than {}: build it again, with `make ready` or \
         `pip install --editable .`",
        native.display(),
    )))
}
