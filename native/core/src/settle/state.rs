//! Objects and balances while a round is settled.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Write;
use super::payment::Payment;
use super::rejection::{Rejection, RejectionCode};
use crate::Hash;
use crate::transactions::ObjectVersion;

/// The objects as the rounds before left them, and what this round has written over them.
pub struct State<'a> {
    before: &'a HashMap<&'a str, (u64, &'a [u8])>,
    written: HashMap<Cow<'a, str>, (u64, Cow<'a, [u8]>)>,
}

impl<'a> State<'a> {
    pub fn new(before: &'a HashMap<&'a str, (u64, &'a [u8])>) -> Result<Self, String> {
        // Storage keeps versions as signed 64-bit integers; it also leaves room to count on.
        match before
            .iter()
            .find(|(_, (version, _))| i64::try_from(*version).is_err())
        {
            Some((object, _)) => Err(format!("the version of {object:?} must be below 2^63")),
            None => Ok(State {
                before,
                written: HashMap::new(),
            }),
        }
    }

    fn get(&self, object: &str) -> (u64, &[u8]) {
        match self.written.get(object) {
            Some((version, value)) => (*version, value),
            None => self.before.get(object).copied().unwrap_or((0, &[])),
        }
    }

    pub fn put(&mut self, object: Cow<'a, str>, version: u64, value: Cow<'a, [u8]>) {
        self.written.insert(object, (version, value));
    }

    /// Why a transaction that names this version does not get it, naming the one that won.
    pub fn conflict(&self, named: &ObjectVersion<'_>) -> Option<Rejection> {
        let (version, value) = self.get(named.object);
        if version == named.version {
            return None;
        }
        let winner = match <&Hash>::try_from(value) {
            Ok(tx_id) if version > 0 => format!(", written by {}", hex(tx_id)),
            _ => String::new(),
        };
        let reason = format!(
            "at version {version}, not {}{winner}: {}",
            named.version, named.object
        );
        Some(Rejection::new(RejectionCode::Conflict, reason))
    }

    /// Moves the amount, or says why not. A payment to oneself needs the balance too; it leaves
    /// the amount as it was and counts as two changes.
    pub fn pay(&mut self, payment: &Payment<'_>) -> Result<Option<Rejection>, String> {
        let Payment { asset, amount, .. } = *payment;
        let [payer, payee] = payment.objects();
        let (payer_version, has) = self.balance(&payer)?;
        let Some(left) = has.checked_sub(amount) else {
            let reason = format!("has {has} {asset}, needs {amount}");
            return Ok(Some(Rejection::new(RejectionCode::Overdraft, reason)));
        };
        let (payee_version, had) = match payer == payee {
            true => (payer_version + 1, left),
            false => self.balance(&payee)?,
        };
        let Some(sum) = had.checked_add(amount) else {
            let reason = format!("the payee's {had} {asset} and {amount} do not fit into 64 bits");
            return Ok(Some(Rejection::new(RejectionCode::Overflow, reason)));
        };
        let value = |balance: u64| Cow::Owned(balance.to_be_bytes().to_vec());
        self.put(Cow::Owned(payer), payer_version + 1, value(left));
        self.put(Cow::Owned(payee), payee_version + 1, value(sum));
        Ok(None)
    }

    fn balance(&self, object: &str) -> Result<(u64, u64), String> {
        match self.get(object) {
            (0, _) => Ok((0, 0)),
            (version, value) => match value.try_into() {
                Ok(bytes) => Ok((version, u64::from_be_bytes(bytes))),
                Err(_) => Err(format!("the value of {object:?} must be 8 bytes")),
            },
        }
    }

    pub fn into_writes(self) -> Vec<Write<'a>> {
        let mut writes: Vec<_> = self
            .written
            .into_iter()
            .map(|(object, (version, value))| Write {
                object,
                version,
                value,
            })
            .collect();
        writes.sort_unstable_by(|a, b| a.object.cmp(&b.object));
        writes
    }
}

/// `$balance/<asset>/<owner's key id in hex>`: the object that holds a balance.
pub fn balance_object(asset: &str, owner: &Hash) -> String {
    format!("$balance/{asset}/{}", hex(owner))
}

pub(super) fn hex(bytes: &Hash) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
