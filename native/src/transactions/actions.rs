//! Actions as the named tuples of `citychain.types`.

use citychain_core::transactions::{Equivocation, Presence, Recovery};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::records::{EQUIVOCATION, PRESENCE, RECOVERY, SEAT, WITNESS_SIGNATURE};

pub fn presence<'py>(py: Python<'py>, presence: &Presence<'_>) -> PyResult<Bound<'py, PyAny>> {
    let witnesses = presence.witnesses.iter().map(|witness| {
        let key_id = PyBytes::new(py, witness.key_id);
        WITNESS_SIGNATURE.make(py, (key_id, PyBytes::new(py, witness.signature)))
    });
    let fields = (
        presence.latitude_e7,
        presence.longitude_e7,
        presence.accuracy_m,
        presence.first_round,
        presence.last_round,
        PyBytes::new(py, presence.anchor),
        PyTuple::new(py, witnesses.collect::<PyResult<Vec<_>>>()?)?,
    );
    PRESENCE.make(py, fields)
}

pub fn equivocation<'py>(py: Python<'py>, votes: &Equivocation<'_>) -> PyResult<Bound<'py, PyAny>> {
    let fields = (
        PyBytes::new(py, votes.public_key),
        votes.round,
        PyBytes::new(py, votes.first_hash),
        PyBytes::new(py, votes.first_signature),
        PyBytes::new(py, votes.second_hash),
        PyBytes::new(py, votes.second_signature),
    );
    EQUIVOCATION.make(py, fields)
}

pub fn recovery<'py>(py: Python<'py>, recovery: &Recovery<'_>) -> PyResult<Bound<'py, PyAny>> {
    let seats = recovery
        .seats
        .iter()
        .map(|seat| SEAT.make(py, (PyBytes::new(py, seat.key_id), seat.stake)));
    let fields = (
        recovery.from_round,
        PyBytes::new(py, recovery.previous),
        PyTuple::new(py, seats.collect::<PyResult<Vec<_>>>()?)?,
    );
    RECOVERY.make(py, fields)
}
