//! `citychain._native.settle`; its types stand in `citychain/_native/settle.pyi`.

use std::collections::HashMap;

use citychain_core::settle as core;
use citychain_core::settle::{Candidate, Outcome, RejectionCode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyList, PyMapping};

use crate::arguments::same_length;
use crate::records::{OBJECT_WRITE, REJECTION};
use crate::signatures::exactly;
use crate::transactions::{Transaction, constant_mapping};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let codes = RejectionCode::ALL.map(|code| (code.name(), code.meaning()));
    module.add("REJECTION_CODES", constant_mapping(module.py(), codes)?)?;
    module.add_class::<Settlement>()?;
    module.add_function(wrap_pyfunction!(needs, module)?)?;
    module.add_function(wrap_pyfunction!(settle, module)?)
}

/// What `settle` has to be told about the rounds before, for these candidates.
///
/// Returns:
///     The ids of the transactions that they depend on and of the objects that they read or write,
///     balances among them, each sorted and without repeats.
#[pyfunction]
fn needs<'py>(
    py: Python<'py>,
    candidates: Vec<Py<Transaction>>,
) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
    let bodies = candidates.iter().map(|candidate| candidate.get().parsed());
    let (ids, objects) = py.detach(|| core::needs(&bodies.collect::<Vec<_>>()));
    let ids = PyList::new(py, ids.into_iter().map(|id| PyBytes::new(py, id)))?;
    Ok((ids, PyList::new(py, objects)?))
}

/// What `settle` decided.
#[pyclass(frozen, get_all, module = "citychain._native.settle")]
pub struct Settlement {
    /// Indexes of the candidates that are sealed now, ascending: an entry's position is its seq.
    order: Py<PyList>,
    /// For each of `order` its `Rejection`, None if it is approved.
    verdicts: Py<PyList>,
    /// Indexes of the candidates that wait, ascending.
    held: Py<PyList>,
    /// The final `ObjectWrite` of each object that was written, sorted by object.
    writes: Py<PyList>,
}

/// Decides which candidates of a round are valid and what they write, in one pass in their order.
///
/// A candidate gets the first of these that applies:
///
/// 1. a verdict in `refused` (by index): rejected with it;
/// 2. `valid_until_ms < time_ms`: EXPIRED;
/// 3. a dependency was rejected, in this round or (False) in an earlier one: DEPENDENCY_REJECTED;
///    one is neither approved earlier in this round nor linked (True) in an earlier one: it is
///    held, or, `hold_rounds` after the round that first held it, DEPENDENCY_MISSING;
/// 4. an object that it reads or writes is at another version than it names: CONFLICT;
/// 5. what it is about stands otherwise: BAD_GENESIS, PEER_KNOWN or PEER_CHANGED of a peer,
///    DELIVERED of a delivery, MISMATCH or SETTLED of a settlement, ANCHORED of an anchor,
///    REWARDED of a reward;
/// 6. its payer's balance is below the amount: OVERDRAFT; the payee's would pass 64 bits:
///    OVERFLOW;
/// 7. approved: each object written is one version on and has the transaction's id for its value,
///    payer's and payee's balances are one version on each (two where they are the same).
///
/// A transfer or a reward is paid by its author. A candidacy is paid by its author to the author's stake
/// account, which is a balance like others with SHA-256("citychain/stake/v1\\0" || author) for the
/// key id; a withdrawal is paid back from there. A remittance is paid by its author to the escrow
/// account of the other city, likewise with SHA-256("citychain/escrow/v1\\0" || genesis id of that
/// city); a settlement pays it back to the payer, or takes it away for good. A delivery adds its
/// amount to the payee's balance, unless it refuses it. Other actions move nothing.
///
/// Args:
///     held_since: For each candidate the round that first held it, 0 if it is new.
///     dependencies: By id, transactions sealed in earlier rounds; unknown ones are absent.
///     objects: (version, value) by object id, as the round before left them; version 0 is the
///         same as absent. A balance is the object `$balance/<asset>/<key id in hex>`, 8 bytes,
///         big-endian; the ledger's others are told in docs/protocol.md.
///
/// Raises:
///     ValueError: two candidates are the same transaction, lengths differ, an index is out of
///         range, or an object's state cannot be.
#[pyfunction]
#[pyo3(signature = (
    *, round, time_ms, hold_rounds, candidates, held_since, refused, dependencies, objects
))]
#[expect(
    clippy::too_many_arguments,
    reason = "named in Python; a round has that many sides"
)]
fn settle<'py>(
    py: Python<'py>,
    round: u64,
    time_ms: u64,
    hold_rounds: u64,
    candidates: Vec<Py<Transaction>>,
    held_since: Vec<u64>,
    refused: &Bound<'py, PyMapping>,
    dependencies: &Bound<'py, PyMapping>,
    objects: &Bound<'py, PyMapping>,
) -> PyResult<Settlement> {
    same_length(
        "held_since",
        held_since.len(),
        "candidates",
        candidates.len(),
    )?;
    let refused = read_refused(refused, candidates.len())?;
    let dependencies = read_dependencies(dependencies)?;
    let objects = read_objects(objects)?;
    let states = objects
        .iter()
        .map(|(object, version, value)| (&**object, (*version, &**value)))
        .collect();
    let round = core::Round {
        round,
        time_ms,
        hold_rounds,
        dependencies: &dependencies,
        objects: &states,
    };
    let parsed = candidates
        .iter()
        .enumerate()
        .map(|(index, transaction)| Candidate {
            tx_id: transaction.get().id(),
            body: transaction.get().parsed(),
            held_since: held_since[index],
            is_refused: refused.contains_key(&index),
        });
    let parsed: Vec<_> = py.detach(|| parsed.collect());
    let settled = py
        .detach(|| core::settle(&parsed, &round))
        .map_err(PyValueError::new_err)?;
    to_python(py, settled, &refused)
}

fn read_refused(
    refused: &Bound<'_, PyMapping>,
    candidates: usize,
) -> PyResult<HashMap<usize, Py<PyAny>>> {
    let mut verdicts = HashMap::new();
    for item in refused.items()?.iter() {
        let (index, verdict): (usize, Bound<'_, PyAny>) = item.extract()?;
        if index >= candidates {
            let message = format!("refused[{index}] is of no candidate: there are {candidates}");
            return Err(PyValueError::new_err(message));
        }
        verdict.extract::<(PyBackedStr, PyBackedStr)>()?;
        verdicts.insert(index, verdict.unbind());
    }
    Ok(verdicts)
}

fn read_dependencies(dependencies: &Bound<'_, PyMapping>) -> PyResult<HashMap<[u8; 32], bool>> {
    let mut standings = HashMap::new();
    for item in dependencies.items()?.iter() {
        let (id, is_linked): (Bound<'_, PyBytes>, bool) = item.extract()?;
        standings.insert(*exactly("dependencies: an id", id.as_bytes())?, is_linked);
    }
    Ok(standings)
}

fn read_objects(
    objects: &Bound<'_, PyMapping>,
) -> PyResult<Vec<(PyBackedStr, u64, PyBackedBytes)>> {
    let flat = |item: Bound<'_, PyAny>| {
        let (object, (version, value)): (_, (_, _)) = item.extract()?;
        Ok((object, version, value))
    };
    objects.items()?.iter().map(flat).collect()
}

fn to_python(
    py: Python<'_>,
    settled: core::Settlement<'_>,
    refused: &HashMap<usize, Py<PyAny>>,
) -> PyResult<Settlement> {
    let (order, verdicts) = (PyList::empty(py), PyList::empty(py));
    let (held, writes) = (PyList::empty(py), PyList::empty(py));
    for (index, outcome) in settled.outcomes.into_iter().enumerate() {
        match outcome {
            Outcome::Held => {
                held.append(index)?;
                continue;
            }
            Outcome::Approved => verdicts.append(py.None())?,
            Outcome::Refused => verdicts.append(&refused[&index])?,
            Outcome::Rejected(core::Rejection { code, reason }) => {
                verdicts.append(REJECTION.make(py, (code.name(), reason))?)?;
            }
        }
        order.append(index)?;
    }
    for write in settled.writes {
        let value = PyBytes::new(py, &write.value);
        writes.append(OBJECT_WRITE.make(py, (write.object, write.version, value))?)?;
    }
    Ok(Settlement {
        order: order.unbind(),
        verdicts: verdicts.unbind(),
        held: held.unbind(),
        writes: writes.unbind(),
    })
}
