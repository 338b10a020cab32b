//! `citychain._native.erasure`; its types stand in `citychain/_native/erasure.pyi`.

use citychain_core::erasure as core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("FRAGMENTS_MAX", core::FRAGMENTS_MAX)?;
    module.add("CHUNK_BYTES_MIN", core::CHUNK_BYTES_MIN)?;
    module.add("CHUNK_BYTES_MAX", core::CHUNK_BYTES_MAX)?;
    module.add_function(wrap_pyfunction!(encode, module)?)?;
    module.add_function(wrap_pyfunction!(decode, module)?)?;
    module.add_function(wrap_pyfunction!(rebuild, module)?)?;
    module.add_function(wrap_pyfunction!(leaf_hashes, module)?)
}

type Encoded<'py> = (Vec<Bound<'py, PyBytes>>, Vec<Bound<'py, PyBytes>>);

/// Cuts a run of data into the chunks of `k` fragments, and computes those of `m` more.
///
/// Args:
///     data: Whole stripes of `k * chunk` bytes, or the last one, shorter.
///
/// Returns:
///     For each of the `k + m` fragments its chunks in a row, and their leaf hashes, 32 bytes each.
///
/// Raises:
///     ValueError: the data is no such run, or there is no such code.
#[pyfunction]
fn encode<'py>(
    py: Python<'py>,
    data: PyBackedBytes,
    k: usize,
    m: usize,
    chunk: usize,
) -> PyResult<Encoded<'py>> {
    let (rows, hashes) = py
        .detach(|| core::Code::new(k, m, chunk)?.encode(&data))
        .map_err(value_error)?;
    let hashes = hashes.iter().map(|hashes| hashes.as_flattened());
    Ok((
        rows.iter().map(|row| PyBytes::new(py, row)).collect(),
        hashes.map(|hashes| PyBytes::new(py, hashes)).collect(),
    ))
}

/// Restores a run of data from the chunks of any `k` fragments.
///
/// They must be right: chunks that were checked against their hashes.
///
/// Args:
///     chunks: For each of `k` fragments its index and its chunks of the run in a row.
///
/// Returns:
///     The data of whole stripes; that of the last one with the zeros that fill it.
///
/// Raises:
///     ValueError: these are not `k` different fragments with the same number of bytes, these are
///         no whole chunks nor one shorter, even one, or there is no such code.
#[pyfunction]
fn decode<'py>(
    py: Python<'py>,
    chunks: Vec<(usize, PyBackedBytes)>,
    k: usize,
    m: usize,
    chunk: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let data = py
        .detach(|| core::Code::new(k, m, chunk)?.decode(&rows(&chunks)))
        .map_err(value_error)?;
    Ok(PyBytes::new(py, &data))
}

/// Makes one fragment's chunks of a run again, from those of any `k`, as `decode` takes them.
///
/// Raises:
///     ValueError: as `decode`, or there is no fragment `index`.
#[pyfunction]
fn rebuild<'py>(
    py: Python<'py>,
    chunks: Vec<(usize, PyBackedBytes)>,
    k: usize,
    m: usize,
    chunk: usize,
    index: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let row = py
        .detach(|| core::Code::new(k, m, chunk)?.rebuild(&rows(&chunks), index))
        .map_err(value_error)?;
    Ok(PyBytes::new(py, &row))
}

/// The leaf hash of each chunk of a fragment, 32 bytes each; the last chunk may be shorter.
///
/// Raises:
///     ValueError: chunks cannot have this size.
#[pyfunction]
fn leaf_hashes<'py>(
    py: Python<'py>,
    chunks: PyBackedBytes,
    chunk: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let hashes = py
        .detach(|| core::leaf_hashes(&chunks, chunk))
        .map_err(value_error)?;
    Ok(PyBytes::new(py, hashes.as_flattened()))
}

fn rows(chunks: &[(usize, PyBackedBytes)]) -> Vec<core::Row<'_>> {
    chunks
        .iter()
        .map(|(index, chunks)| (*index, &chunks[..]))
        .collect()
}

fn value_error(error: core::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
