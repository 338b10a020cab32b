//! Objects and balances while a round is settled.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Write;
use super::payment::Payment;
use super::rejection::{Rejection, RejectionCode, Stop};
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

    /// The value of an object of the ledger's own, if it is there.
    pub fn value(&self, object: &str) -> Option<&[u8]> {
        match self.get(object) {
            (0, _) => None,
            (_, value) => Some(value),
        }
    }

    /// Writes an object of the ledger's own, whatever version it is at.
    pub fn put_next(&mut self, object: String, value: Cow<'a, [u8]>) {
        let (version, _) = self.get(&object);
        self.put(Cow::Owned(object), version + 1, value);
    }

    /// Moves the amount. A payment to oneself needs the balance too; it leaves the amount as it
    /// was and counts as two changes.
    pub fn pay(&mut self, payment: &Payment<'_>) -> Result<(), Stop> {
        let Payment { asset, amount, .. } = *payment;
        let [payer, payee] = payment.objects();
        let left = self.less(&payer, asset, amount)?;
        let had = match payer == payee {
            true => left,
            false => self.balance(&payee)?,
        };
        let sum = more(had, asset, amount)?;
        self.put_balance(payer, left);
        self.put_balance(payee, sum);
        Ok(())
    }

    /// Adds an amount that comes from another city.
    pub fn mint(&mut self, asset: &str, to: &Hash, amount: u64) -> Result<(), Stop> {
        let payee = balance_object(asset, to);
        let sum = more(self.balance(&payee)?, asset, amount)?;
        self.put_balance(payee, sum);
        Ok(())
    }

    /// Takes an amount away that another city has now.
    pub fn burn(&mut self, asset: &str, from: &Hash, amount: u64) -> Result<(), Stop> {
        let payer = balance_object(asset, from);
        let left = self.less(&payer, asset, amount)?;
        self.put_balance(payer, left);
        Ok(())
    }

    /// What the payer has without the amount.
    fn less(&self, payer: &str, asset: &str, amount: u64) -> Result<u64, Stop> {
        let has = self.balance(payer)?;
        has.checked_sub(amount).ok_or_else(|| {
            let reason = format!("has {has} {asset}, needs {amount}");
            Rejection::new(RejectionCode::Overdraft, reason).into()
        })
    }

    fn balance(&self, object: &str) -> Result<u64, Stop> {
        match self.value(object).map(TryInto::try_into) {
            None => Ok(0),
            Some(Ok(bytes)) => Ok(u64::from_be_bytes(bytes)),
            Some(Err(_)) => Err(format!("the value of {object:?} must be 8 bytes").into()),
        }
    }

    fn put_balance(&mut self, object: String, balance: u64) {
        self.put_next(object, balance.to_be_bytes().to_vec().into());
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

/// What a payee has with the amount.
fn more(had: u64, asset: &str, amount: u64) -> Result<u64, Stop> {
    had.checked_add(amount).ok_or_else(|| {
        let reason = format!("the payee's {had} {asset} and {amount} do not fit into 64 bits");
        Rejection::new(RejectionCode::Overflow, reason).into()
    })
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
