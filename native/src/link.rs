//! `citychain._native.link`; its types stand in `citychain/_native/link.pyi`.

use std::collections::HashMap;

use citychain_core::link as core;
use citychain_core::link::{Leaf, Linkable, Linked, NodeRef, Parent, Sealed};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyInt, PyList, PyMapping, PySequence, PyTuple};

use crate::arguments::same_length;
use crate::records::{Reference, node_ref};
use crate::signatures::exactly;
use crate::transactions::Transaction;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("PARENTS_MAX", core::PARENTS_MAX)?;
    module.add_function(wrap_pyfunction!(sealed_rounds_parents, module)?)?;
    module.add_function(wrap_pyfunction!(node_ids, module)?)?;
    module.add_function(wrap_pyfunction!(leaf_hashes, module)?)
}

/// The parents that the rule `sealed-rounds` gives to the transactions of a round, at most 8 each.
///
/// In this order, without repeats: each dependency; the author's previous node; two of the tips,
/// picked by SHA-256("citychain/tip/v1\0" || previous root || tx id || j), j = 0 and 1, as an
/// integer modulo their number. The genesis where there are none. `()` for a rejected one.
///
/// Args:
///     previous_root: RFC 6962 root of the city's log before the round, 32 bytes.
///     order: The sealed transactions in order of seq.
///     approved: Whether each is.
///     dependencies: Nodes of earlier rounds by transaction id.
///     latest: The latest node of each author in earlier rounds, by key id.
///     tips: The linked nodes of the latest earlier round that has any, in order of seq.
///
/// Returns:
///     For each its parents: an int is the seq of a node of this round.
///
/// Raises:
///     ValueError: an approved transaction's dependency is not known; a node is not of an earlier
///         round; lengths differ.
#[pyfunction]
#[pyo3(signature = (
    *, genesis, round, previous_root, order, approved, dependencies, latest, tips
))]
#[expect(
    clippy::too_many_arguments,
    reason = "named in Python; a round has that many sides"
)]
fn sealed_rounds_parents<'py>(
    py: Python<'py>,
    genesis: &[u8],
    round: u64,
    previous_root: &[u8],
    order: Vec<Py<Transaction>>,
    approved: Vec<bool>,
    dependencies: &Bound<'py, PyMapping>,
    latest: &Bound<'py, PyMapping>,
    tips: &Bound<'py, PySequence>,
) -> PyResult<Bound<'py, PyList>> {
    same_length("approved", approved.len(), "order", order.len())?;
    let linked = Linked {
        genesis: &Reference::genesis(py, exactly("genesis", genesis)?)?,
        previous_root: exactly("previous_root", previous_root)?,
        dependencies: &references("dependencies", dependencies, round)?,
        latest: &references("latest", latest, round)?,
        tips: &tips
            .try_iter()?
            .map(|tip| Reference::read("tips", &tip?, round))
            .collect::<PyResult<Vec<_>>>()?,
    };
    let parents = py
        .detach(|| {
            let parsed = order
                .iter()
                .zip(&approved)
                .map(|(transaction, is_approved)| Sealed {
                    tx_id: transaction.get().id(),
                    body: transaction.get().parsed(),
                    is_approved: *is_approved,
                });
            core::sealed_rounds_parents(&parsed.collect::<Vec<_>>(), &linked)
        })
        .map_err(PyValueError::new_err)?;
    let list = PyList::empty(py);
    for parents in parents {
        list.append(PyTuple::new(
            py,
            parents.into_iter().map(|parent| to_python(py, parent)),
        )?)?;
    }
    Ok(list)
}

fn to_python(py: Python<'_>, parent: Parent<&Reference>) -> Py<PyAny> {
    match parent {
        Parent::Here(seq) => PyInt::new(py, seq).into_any().unbind(),
        Parent::Earlier(reference) => reference.object.clone_ref(py),
    }
}

fn references(
    name: &str,
    mapping: &Bound<'_, PyMapping>,
    round: u64,
) -> PyResult<HashMap<[u8; 32], Reference>> {
    let mut references = HashMap::new();
    for item in mapping.items()?.iter() {
        let (id, node): (Bound<'_, PyBytes>, Bound<'_, PyAny>) = item.extract()?;
        let id = exactly(name, id.as_bytes())?;
        references.insert(*id, Reference::read(name, &node, round)?);
    }
    Ok(references)
}

/// Node ids of a whole round in order of seq, None for the rejected. See `citychain.node`.
///
/// Args:
///     parents: For each approved transaction 1 to 8, without repeats: nodes of earlier rounds, or
///         ints that name by seq an approved transaction before it. `()` for each rejected one.
///     pops: Where the city judges place, for each transaction the 32-byte hash of the judgement;
///         those of rejected ones are not looked at.
///
/// Raises:
///     ValueError: naming the entry whose parents break these rules; an id is not 32 bytes, the
///         rule is not 1 to 255 bytes of UTF-8, or lengths differ.
#[pyfunction]
#[pyo3(signature = (*, rule, genesis, round, tx_ids, parents, approved, pops=None))]
#[expect(
    clippy::too_many_arguments,
    reason = "named in Python; a node id covers that much"
)]
fn node_ids<'py>(
    py: Python<'py>,
    rule: &str,
    genesis: &[u8],
    round: u64,
    tx_ids: Vec<PyBackedBytes>,
    parents: Vec<Bound<'py, PyTuple>>,
    approved: Vec<bool>,
    pops: Option<Vec<PyBackedBytes>>,
) -> PyResult<Vec<Option<Bound<'py, PyBytes>>>> {
    same_length("parents", parents.len(), "tx_ids", tx_ids.len())?;
    same_length("approved", approved.len(), "tx_ids", tx_ids.len())?;
    if let Some(pops) = &pops {
        same_length("pops", pops.len(), "tx_ids", tx_ids.len())?;
    }
    let genesis = exactly("genesis", genesis)?;
    let parents: Vec<Vec<_>> = parents
        .iter()
        .map(|parents| parents.iter().map(|parent| read_parent(&parent)).collect())
        .collect::<PyResult<_>>()?;
    let mut order = Vec::with_capacity(tx_ids.len());
    for (seq, tx_id) in tx_ids.iter().enumerate() {
        let pop = match &pops {
            Some(pops) if approved[seq] => Some(exactly("pops: a hash", &pops[seq])?),
            _ => None,
        };
        order.push(Linkable {
            tx_id: exactly("tx_ids: an id", tx_id)?,
            is_approved: approved[seq],
            parents: &parents[seq],
            pop,
        });
    }
    let ids = py
        .detach(|| core::node_ids(rule, genesis, round, &order))
        .map_err(PyValueError::new_err)?;
    Ok(ids
        .iter()
        .map(|id| id.map(|id| PyBytes::new(py, &id)))
        .collect())
}

fn read_parent(parent: &Bound<'_, PyAny>) -> PyResult<Parent<NodeRef>> {
    match parent.cast::<PyInt>() {
        Ok(seq) => Ok(Parent::Here(seq.extract()?)),
        Err(_) => Ok(Parent::Earlier(node_ref("parents", parent)?)),
    }
}

/// RFC 6962 leaf hashes of a round's transactions, 32 bytes each, in order of seq.
///
/// Layout of a leaf: 01 || node id, for an approved transaction; 02 || round 8 || seq 4 || tx id ||
/// len(code) 1 || code || len(reason) 1 || reason, for a rejected one. Exactly one of node id and
/// rejection is given for each.
///
/// Raises:
///     ValueError: an id is not 32 bytes, a code is not 1 to 32 characters of A-Z, 0-9 and _, a
///         reason is longer than 255 bytes, both or neither of node id and rejection are given, or
///         lengths differ.
#[pyfunction]
#[pyo3(signature = (*, round, tx_ids, node_ids, rejections))]
fn leaf_hashes<'py>(
    py: Python<'py>,
    round: u64,
    tx_ids: Vec<PyBackedBytes>,
    node_ids: Vec<Option<PyBackedBytes>>,
    rejections: Vec<Option<(PyBackedStr, PyBackedStr)>>,
) -> PyResult<Bound<'py, PyBytes>> {
    same_length("node_ids", node_ids.len(), "tx_ids", tx_ids.len())?;
    same_length("rejections", rejections.len(), "tx_ids", tx_ids.len())?;
    let mut leaves = Vec::with_capacity(tx_ids.len());
    for (index, tx_id) in tx_ids.iter().enumerate() {
        let tx_id = exactly("tx_ids: an id", tx_id)?;
        leaves.push(match (&node_ids[index], &rejections[index]) {
            (Some(node_id), None) => Leaf::Approved {
                node_id: exactly("node_ids: an id", node_id)?,
            },
            (None, Some((code, reason))) => Leaf::Rejected {
                round,
                seq: u32::try_from(index)?,
                tx_id,
                code,
                reason,
            },
            _ => {
                let message =
                    format!("node_ids[{index}] or rejections[{index}]: one must be given");
                return Err(PyValueError::new_err(message));
            }
        });
    }
    let hashes: Result<Vec<_>, _> = py.detach(|| leaves.iter().map(core::leaf_hash).collect());
    let hashes = hashes.map_err(PyValueError::new_err)?;
    Ok(PyBytes::new(py, hashes.as_flattened()))
}
