//! Actions as the named tuples of `citychain.types`.

use citychain_core::transactions::{
    Anchor, Delivery, Equivocation, Presence, Recovery, Remittance, Reward, Settlement,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::records::{
    ANCHOR, DELIVERY, EQUIVOCATION, PEER, PRESENCE, RECOVERY, REMITTANCE, REWARD, SEAT, SETTLEMENT,
    WITNESS_SIGNATURE,
};

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

pub fn peer<'py>(py: Python<'py>, genesis_file: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    PEER.make(py, (PyBytes::new(py, genesis_file),))
}

pub fn remittance<'py>(
    py: Python<'py>,
    remittance: &Remittance<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = (
        remittance.asset,
        PyBytes::new(py, remittance.city),
        PyBytes::new(py, remittance.to),
        remittance.amount,
    );
    REMITTANCE.make(py, fields)
}

pub fn delivery<'py>(py: Python<'py>, delivery: &Delivery<'_>) -> PyResult<Bound<'py, PyAny>> {
    let (code, reason) = delivery
        .refusal
        .map_or(("", ""), |refusal| (refusal.code, refusal.reason));
    let fields = (
        PyBytes::new(py, delivery.city),
        PyBytes::new(py, delivery.tx_id),
        delivery.asset,
        PyBytes::new(py, delivery.to),
        delivery.amount,
        PyBytes::new(py, delivery.proof),
        code,
        reason,
    );
    DELIVERY.make(py, fields)
}

pub fn settlement<'py>(
    py: Python<'py>,
    settlement: &Settlement<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = (
        PyBytes::new(py, settlement.tx_id),
        PyBytes::new(py, settlement.payer),
        PyBytes::new(py, settlement.city),
        settlement.asset,
        settlement.amount,
        settlement.returned,
        PyBytes::new(py, settlement.proof),
    );
    SETTLEMENT.make(py, fields)
}

pub fn anchor<'py>(py: Python<'py>, anchor: &Anchor<'_>) -> PyResult<Bound<'py, PyAny>> {
    let fields = (
        PyBytes::new(py, anchor.city),
        PyBytes::new(py, anchor.checkpoint),
        PyBytes::new(py, anchor.proof),
    );
    ANCHOR.make(py, fields)
}

pub fn reward<'py>(py: Python<'py>, reward: &Reward<'_>) -> PyResult<Bound<'py, PyAny>> {
    let to = PyBytes::new(py, reward.to);
    REWARD.make(py, (reward.epoch, reward.asset, to, reward.amount))
}
