//! The Python face of `citychain-core`: conversion and registration only.

use pyo3::prelude::*;

mod arguments;
mod erasure;
mod link;
mod merkle;
mod places;
mod poh;
mod provenance;
mod records;
mod settle;
mod signatures;
mod transactions;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    provenance::check(module)?;
    submodule(module, "erasure", erasure::register)?;
    submodule(module, "link", link::register)?;
    submodule(module, "merkle", merkle::register)?;
    submodule(module, "places", places::register)?;
    submodule(module, "poh", poh::register)?;
    submodule(module, "settle", settle::register)?;
    submodule(module, "signatures", signatures::register)?;
    submodule(module, "transactions", transactions::register)?;
    Ok(())
}

/// Adds `citychain._native.<name>` and fills it.
///
/// It also goes into `sys.modules`: an extension is a single file, so the import system finds no
/// `citychain._native.<name>` on disk and looks there alone.
fn submodule<'py>(
    parent: &Bound<'py, PyModule>,
    name: &str,
    register: impl FnOnce(&Bound<'py, PyModule>) -> PyResult<()>,
) -> PyResult<()> {
    let full_name = format!("citychain._native.{name}");
    let module = PyModule::new(parent.py(), &full_name)?;
    register(&module)?;
    // PyO3 keeps a list of what was added; the stub is that list, and stubtest compares the two.
    module.delattr("__all__")?;
    parent.add(name, &module)?;
    parent
        .py()
        .import("sys")?
        .getattr("modules")?
        .set_item(full_name, module)
}
