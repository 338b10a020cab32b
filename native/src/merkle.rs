//! `citychain._native.merkle`; its types stand in `citychain/_native/merkle.pyi`.

use citychain_core::Hash;
use citychain_core::merkle as core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyInt};

use crate::signatures::exactly;

pyo3::import_exception!(citychain.errors, InvalidProof);

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Tree>()?;
    module.add_function(wrap_pyfunction!(hash_leaf, module)?)?;
    module.add_function(wrap_pyfunction!(hash_children, module)?)?;
    module.add_function(wrap_pyfunction!(leaf_hashes, module)?)?;
    module.add_function(wrap_pyfunction!(inclusion_ranges, module)?)?;
    module.add_function(wrap_pyfunction!(consistency_ranges, module)?)?;
    module.add_function(wrap_pyfunction!(range_reads, module)?)?;
    module.add_function(wrap_pyfunction!(fold, module)?)?;
    module.add_function(wrap_pyfunction!(round_inclusions, module)?)?;
    module.add_function(wrap_pyfunction!(verify_inclusion, module)?)?;
    module.add_function(wrap_pyfunction!(verify_consistency, module)?)
}

/// An append-only tree, kept as its peaks: the hashes of its maximal perfect subtrees.
///
/// Args:
///     size: Number of leaves.
///     peaks: 32 bytes for each bit set in `size`, left to right.
///
/// Raises:
///     ValueError: `peaks` has another length.
#[pyclass(module = "citychain._native.merkle")]
struct Tree(core::Tree);

#[pymethods]
impl Tree {
    #[new]
    #[pyo3(signature = (size=0, peaks=&b""[..]), text_signature = "(size=0, peaks=b'')")]
    fn new(size: u64, peaks: &[u8]) -> PyResult<Self> {
        let peaks = hashes("peaks", peaks)?.to_vec();
        core::Tree::from_peaks(size, peaks)
            .map(Self)
            .map_err(value_error)
    }

    /// Number of leaves.
    #[getter]
    fn size(&self) -> u64 {
        self.0.size()
    }

    /// The peaks, 32 bytes each, left to right.
    #[getter]
    fn peaks<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.peaks().as_flattened())
    }

    /// The root hash, 32 bytes; that of no leaf is SHA-256 of nothing.
    fn root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.root())
    }

    /// Appends leaves by their hashes, 32 bytes each.
    ///
    /// Returns:
    ///     (level, index, hash) of each perfect subtree at a level of 8, 16, ... that this
    ///     completed: the one over leaves `[index << level, (index + 1) << level)`.
    ///
    /// Raises:
    ///     ValueError: the length is no multiple of 32, or the leaves exceed 2**64 - 1.
    fn append<'py>(
        &mut self,
        py: Python<'py>,
        leaf_hashes: &[u8],
    ) -> PyResult<Vec<(u32, u64, Bound<'py, PyBytes>)>> {
        let leaf_hashes = hashes("leaf_hashes", leaf_hashes)?;
        let completed = py
            .detach(|| self.0.append(leaf_hashes))
            .map_err(value_error)?;
        let to_python = |subtree: core::Subtree| {
            (
                subtree.level,
                subtree.index,
                PyBytes::new(py, &subtree.hash),
            )
        };
        Ok(completed.into_iter().map(to_python).collect())
    }

    /// A tree of its own with the same leaves.
    fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    fn __repr__(&self) -> String {
        format!("Tree(size={})", self.0.size())
    }
}

/// SHA-256(0x00 || data), 32 bytes.
#[pyfunction]
fn hash_leaf<'py>(py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &py.detach(|| core::hash_leaf(data)))
}

/// SHA-256(0x01 || left || right), 32 bytes.
///
/// Raises:
///     ValueError: an argument is not 32 bytes.
#[pyfunction]
fn hash_children<'py>(py: Python<'py>, left: &[u8], right: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let hash = core::hash_children(exactly("left", left)?, exactly("right", right)?);
    Ok(PyBytes::new(py, &hash))
}

/// `hash_leaf` of each, 32 bytes a leaf.
#[pyfunction]
fn leaf_hashes<'py>(py: Python<'py>, leaves: Vec<PyBackedBytes>) -> Bound<'py, PyBytes> {
    let hashes: Vec<Hash> = py.detach(|| leaves.iter().map(|leaf| core::hash_leaf(leaf)).collect());
    PyBytes::new(py, hashes.as_flattened())
}

/// The subtrees, as (begin, end) of leaves, whose hashes are the inclusion proof of a leaf.
///
/// Raises:
///     ValueError: the index is not below the size.
#[pyfunction]
fn inclusion_ranges(index: u64, size: u64) -> PyResult<Vec<(u64, u64)>> {
    let ranges = core::inclusion_ranges(index, size).map_err(value_error)?;
    Ok(ranges
        .into_iter()
        .map(|range| (range.start, range.end))
        .collect())
}

/// The subtrees, as (begin, end) of leaves, whose hashes are the proof that the tree of `second`
/// leaves begins with that of `first`.
///
/// Raises:
///     ValueError: the sizes do not fulfil 1 <= first <= second.
#[pyfunction]
fn consistency_ranges(first: u64, second: u64) -> PyResult<Vec<(u64, u64)>> {
    let ranges = core::consistency_ranges(first, second).map_err(value_error)?;
    Ok(ranges
        .into_iter()
        .map(|range| (range.start, range.end))
        .collect())
}

/// The stored hashes that `fold` makes the hash of a subtree from.
///
/// Returns:
///     Runs of (level, begin, end), the levels descending multiples of 8: hashes of the perfect
///     subtrees of that level with begin <= index < end, level 0 being the leaves.
///
/// Raises:
///     ValueError: no subtree is over the leaves [begin, end).
#[pyfunction]
fn range_reads(begin: u64, end: u64) -> PyResult<Vec<(u32, u64, u64)>> {
    let reads = core::range_reads(begin, end).map_err(value_error)?;
    Ok(reads
        .into_iter()
        .map(|read| (read.level, read.begin, read.end))
        .collect())
}

/// The hash of the subtree over the leaves [begin, end).
///
/// Args:
///     hashes: All that `range_reads` names, in that order, 32 bytes each.
///
/// Raises:
///     ValueError: these are not as many, or no subtree is over these leaves.
#[pyfunction]
fn fold<'py>(
    py: Python<'py>,
    begin: u64,
    end: u64,
    hashes: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let hashes = self::hashes("hashes", hashes)?;
    let hash = py
        .detach(|| core::fold(begin, end, hashes))
        .map_err(value_error)?;
    Ok(PyBytes::new(py, &hash))
}

/// Inclusion proofs of leaves that one append added, for the size after it, without stored hashes.
///
/// Args:
///     peaks: Those of the tree before the append, 32 bytes each.
///     first_index: Its size: the index of the first leaf added.
///     leaf_hashes: All leaves added, 32 bytes each.
///     indexes: In the whole tree, of the leaves to prove.
///
/// Raises:
///     ValueError: an index is not among the leaves added, or a length does not fit.
#[pyfunction]
fn round_inclusions<'py>(
    py: Python<'py>,
    peaks: &[u8],
    first_index: u64,
    leaf_hashes: &[u8],
    indexes: Vec<u64>,
) -> PyResult<Vec<Vec<Bound<'py, PyBytes>>>> {
    let peaks = hashes("peaks", peaks)?;
    let leaf_hashes = hashes("leaf_hashes", leaf_hashes)?;
    let proofs: Result<Vec<Vec<Hash>>, core::Error> = py.detach(|| {
        let before = core::Tree::from_peaks(first_index, peaks.to_vec())?;
        let round = core::Round::new(&before, leaf_hashes)?;
        indexes
            .iter()
            .map(|&index| round.inclusion(index))
            .collect()
    });
    let to_python = |proof: &Vec<Hash>| proof.iter().map(|hash| PyBytes::new(py, hash)).collect();
    Ok(proofs.map_err(value_error)?.iter().map(to_python).collect())
}

/// Verifies that the leaf with this hash stands at `index` in the tree of this size and root.
///
/// Raises:
///     InvalidProof: it does not, or an argument is malformed.
#[pyfunction]
fn verify_inclusion(
    leaf_hash: &[u8],
    index: &Bound<'_, PyInt>,
    size: &Bound<'_, PyInt>,
    proof: &Bound<'_, PyAny>,
    root: &[u8],
) -> PyResult<()> {
    core::verify_inclusion(
        &claimed_hash("leaf_hash", leaf_hash)?,
        claimed_count("index", index)?,
        claimed_count("size", size)?,
        &claimed_proof(proof)?,
        &claimed_hash("root", root)?,
    )
    .map_err(invalid_proof)
}

/// Verifies that the tree of the second size and root begins with all leaves of the first, which
/// has at least one.
///
/// Raises:
///     InvalidProof: it does not, or an argument is malformed.
#[pyfunction]
fn verify_consistency(
    first_size: &Bound<'_, PyInt>,
    second_size: &Bound<'_, PyInt>,
    proof: &Bound<'_, PyAny>,
    first_root: &[u8],
    second_root: &[u8],
) -> PyResult<()> {
    core::verify_consistency(
        claimed_count("first_size", first_size)?,
        claimed_count("second_size", second_size)?,
        &claimed_proof(proof)?,
        &claimed_hash("first_root", first_root)?,
        &claimed_hash("second_root", second_root)?,
    )
    .map_err(invalid_proof)
}

fn hashes<'a>(name: &str, bytes: &'a [u8]) -> PyResult<&'a [Hash]> {
    match bytes.as_chunks() {
        (hashes, []) => Ok(hashes),
        _ => Err(PyValueError::new_err(format!(
            "{name} must have 32 bytes each, not {} together",
            bytes.len()
        ))),
    }
}

fn claimed_hash(name: &str, bytes: &[u8]) -> PyResult<Hash> {
    bytes.try_into().map_err(|_| {
        InvalidProof::new_err(format!("{name} must have 32 bytes, not {}", bytes.len()))
    })
}

fn claimed_count(name: &str, value: &Bound<'_, PyInt>) -> PyResult<u64> {
    value
        .extract()
        .map_err(|_| InvalidProof::new_err(format!("{name} must be from 0 to 2**64 - 1")))
}

fn claimed_proof(proof: &Bound<'_, PyAny>) -> PyResult<Vec<Hash>> {
    let (length, max) = (proof.len()?, core::PROOF_HASHES_MAX);
    if length > max {
        let message = format!("the proof must have at most {max} hashes, not {length}");
        return Err(InvalidProof::new_err(message));
    }
    let proof: Vec<PyBackedBytes> = proof.extract()?;
    proof
        .iter()
        .map(|hash| claimed_hash("a hash of the proof", hash))
        .collect()
}

fn value_error(error: core::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn invalid_proof(error: core::Error) -> PyErr {
    InvalidProof::new_err(error.to_string())
}
