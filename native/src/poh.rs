//! `citychain._native.poh`; its types stand in `citychain/_native/poh.pyi`.

use citychain_core::poh as core;
use citychain_core::pool::pool;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};

use crate::signatures::exactly;

pyo3::import_exception!(citychain.errors, InvalidPoh);

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("NUM_HASHES_MAX", core::NUM_HASHES_MAX)?;
    module.add_function(wrap_pyfunction!(extend, module)?)?;
    module.add_function(wrap_pyfunction!(verify, module)?)
}

/// The hash, 32 bytes, of the entry that follows `prev` after `num_hashes` hashes.
///
/// Args:
///     prev: 32 bytes.
///     num_hashes: From 1 to `NUM_HASHES_MAX`; at some 20 to 50 million a second.
///     mixin: 32 bytes.
///
/// Raises:
///     ValueError: an argument has another length or is out of range.
#[pyfunction]
fn extend<'py>(
    py: Python<'py>,
    prev: &[u8],
    num_hashes: &Bound<'py, PyInt>,
    mixin: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let prev = exactly("prev", prev)?;
    let mixin = exactly("mixin", mixin)?;
    let num_hashes = saturated(num_hashes);
    let hash = py.detach(|| core::extend(prev, num_hashes, mixin));
    let hash = hash.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &hash))
}

type Entry<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyInt>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
);

/// Verifies the hash of each entry (prev, num_hashes, mixin, hash), on all cores.
///
/// Whether entries follow each other is for the caller to see: `prev` is the other's `hash`.
///
/// Args:
///     max_num_hashes: Bound of each entry's `num_hashes`, checked before anything is hashed.
///
/// Raises:
///     InvalidPoh: naming the index of the first entry that does not hold.
#[pyfunction]
#[pyo3(signature = (entries, *, max_num_hashes))]
fn verify(py: Python<'_>, entries: Vec<Entry<'_>>, max_num_hashes: u64) -> PyResult<()> {
    let read = |(index, entry)| {
        read_entry(entry)
            .map_err(|e: PyErr| InvalidPoh::new_err(format!("entry {index}: {}", e.value(py))))
    };
    let entries: Vec<core::Entry> = entries
        .iter()
        .enumerate()
        .map(read)
        .collect::<PyResult<_>>()?;
    py.detach(|| core::verify(&entries, max_num_hashes, pool()))
        .map_err(|error| InvalidPoh::new_err(error.to_string()))
}

fn read_entry((prev, num_hashes, mixin, hash): &Entry<'_>) -> PyResult<core::Entry> {
    Ok(core::Entry {
        prev: *exactly("prev", prev.as_bytes())?,
        num_hashes: saturated(num_hashes),
        mixin: *exactly("mixin", mixin.as_bytes())?,
        hash: *exactly("hash", hash.as_bytes())?,
    })
}

/// What 64 bits cannot count is out of every range, as 0 is.
fn saturated(num_hashes: &Bound<'_, PyInt>) -> u64 {
    num_hashes.extract().unwrap_or(0)
}
