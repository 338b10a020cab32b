//! Which transactions of a round are valid, and what they write.
//!
//! One pass over the candidates in their order; first in order wins. Everything follows from the
//! arguments, so anybody repeats it and gets the same, reasons included: they are part of the
//! round's record.

mod exchange;
mod payment;
mod rejection;
mod reward;
mod state;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use crate::Hash;
use crate::transactions::Body;

use exchange::act;
pub use exchange::escrow_account;
use payment::Payment;
pub use payment::stake_account;
use rejection::Stop;
pub use rejection::{REASON_BYTES_MAX, Rejection, RejectionCode};
pub use state::balance_object;
use state::{State, hex};

/// A transaction that asks for a place in the round.
pub struct Candidate<'a> {
    pub tx_id: &'a Hash,
    pub body: Body<'a>,
    /// The round in which it was first held, 0 for a new one.
    pub held_since: u64,
    /// A rule outside this module has rejected it already.
    pub is_refused: bool,
}

/// What the round is, and what the rounds before it left.
pub struct Round<'a> {
    pub round: u64,
    pub time_ms: u64,
    /// For how many rounds a transaction waits for a dependency.
    pub hold_rounds: u64,
    /// Dependencies sealed in earlier rounds: whether they were linked.
    pub dependencies: &'a HashMap<Hash, bool>,
    /// Version and value by object id; version 0 is the same as absent.
    pub objects: &'a HashMap<&'a str, (u64, &'a [u8])>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Approved,
    Rejected(Rejection),
    /// Rejected by the rule outside.
    Refused,
    /// Waits for a dependency; has no place in this round.
    Held,
}

/// The state in which the round leaves an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    pub object: Cow<'a, str>,
    pub version: u64,
    /// The id of the transaction that wrote it; for an object of the ledger's own, whose name
    /// begins with `$`, what it keeps: a `u64` for a balance.
    pub value: Cow<'a, [u8]>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Settlement<'a> {
    /// One for each candidate.
    pub outcomes: Vec<Outcome>,
    /// One for each object that was written, sorted by object id.
    pub writes: Vec<Write<'a>>,
}

/// What of the earlier rounds decides about some transactions: the ids that they depend on, and the
/// objects that they read or write, balances among them.
pub fn needs<'a>(bodies: &[Body<'a>]) -> (BTreeSet<&'a Hash>, BTreeSet<Cow<'a, str>>) {
    let (mut ids, mut objects) = (BTreeSet::new(), BTreeSet::new());
    for body in bodies {
        ids.extend(&body.depends_on);
        let named = body.reads.iter().chain(&body.writes);
        objects.extend(named.map(|entry| Cow::Borrowed(entry.object)));
        if let Some(payment) = Payment::of(body) {
            objects.extend(payment.objects().map(Cow::Owned));
        }
        objects.extend(exchange::objects(body).into_iter().map(Cow::Owned));
    }
    (ids, objects)
}

/// Settles a round.
///
/// # Errors
/// A message, if two candidates are one transaction or a given state cannot be.
pub fn settle<'a>(
    candidates: &'a [Candidate<'a>],
    round: &'a Round<'a>,
) -> Result<Settlement<'a>, String> {
    let mut pass = Pass {
        round,
        state: State::new(round.objects)?,
        standings: HashMap::with_capacity(candidates.len()),
    };
    let mut outcomes = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        let outcome = pass.decide(candidate)?;
        let standing = match outcome {
            Outcome::Approved => Standing::Linked,
            Outcome::Rejected(..) | Outcome::Refused => Standing::Rejected,
            Outcome::Held => Standing::Open,
        };
        if pass.standings.insert(candidate.tx_id, standing).is_some() {
            return Err(format!(
                "candidates[{index}] repeats the transaction of an earlier one"
            ));
        }
        outcomes.push(outcome);
    }
    Ok(Settlement {
        outcomes,
        writes: pass.state.into_writes(),
    })
}

/// How a dependency stands at some point of the pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Linked,
    Rejected,
    /// Unknown, or held itself.
    Open,
}

struct Pass<'a> {
    round: &'a Round<'a>,
    state: State<'a>,
    standings: HashMap<&'a Hash, Standing>,
}

impl<'a> Pass<'a> {
    /// The rules, in their order. Nothing is written before all of them hold.
    fn decide(&mut self, candidate: &'a Candidate<'a>) -> Result<Outcome, String> {
        let body = &candidate.body;
        if candidate.is_refused {
            return Ok(Outcome::Refused);
        }
        if let Some(rejection) = self.expired(body) {
            return Ok(Outcome::Rejected(rejection));
        }
        if let Some(outcome) = self.not_ready(candidate) {
            return Ok(outcome);
        }
        let mut named = body.reads.iter().chain(&body.writes);
        if let Some(rejection) = named.find_map(|object| self.state.conflict(object)) {
            return Ok(Outcome::Rejected(rejection));
        }
        match act(&mut self.state, candidate.tx_id, body) {
            Ok(()) => {}
            Err(Stop::Rejected(rejection)) => return Ok(Outcome::Rejected(rejection)),
            Err(Stop::Impossible(message)) => return Err(message),
        }
        for write in &body.writes {
            let value = Cow::Borrowed(candidate.tx_id.as_slice());
            self.state
                .put(Cow::Borrowed(write.object), write.version + 1, value);
        }
        Ok(Outcome::Approved)
    }

    fn expired(&self, body: &Body<'_>) -> Option<Rejection> {
        let until = body.valid_until_ms?;
        let reason = || {
            format!(
                "valid until {until} ms, the round is at {} ms",
                self.round.time_ms
            )
        };
        (until < self.round.time_ms).then(|| Rejection::new(RejectionCode::Expired, reason()))
    }

    /// What becomes of a candidate whose dependencies are not all linked. A rejected one decides,
    /// however the others stand, since the candidate can never be valid.
    fn not_ready(&self, candidate: &Candidate<'a>) -> Option<Outcome> {
        if let Some(id) = self.first_dependency(&candidate.body, Standing::Rejected) {
            let reason = format!("depends on {}, which was rejected", hex(id));
            let code = RejectionCode::DependencyRejected;
            return Some(Outcome::Rejected(Rejection::new(code, reason)));
        }
        let id = self.first_dependency(&candidate.body, Standing::Open)?;
        let last = candidate.held_since.saturating_add(self.round.hold_rounds);
        if candidate.held_since == 0 || self.round.round < last {
            return Some(Outcome::Held);
        }
        let rounds = self.round.hold_rounds;
        let reason = format!(
            "depends on {}, which did not come within {rounds} rounds",
            hex(id)
        );
        Some(Outcome::Rejected(Rejection::new(
            RejectionCode::DependencyMissing,
            reason,
        )))
    }

    fn first_dependency(&self, body: &Body<'a>, wanted: Standing) -> Option<&'a Hash> {
        body.depends_on
            .iter()
            .copied()
            .find(|id| self.standing(id) == wanted)
    }

    fn standing(&self, id: &Hash) -> Standing {
        match (self.standings.get(id), self.round.dependencies.get(id)) {
            (Some(standing), _) => *standing,
            (None, Some(true)) => Standing::Linked,
            (None, Some(false)) => Standing::Rejected,
            (None, None) => Standing::Open,
        }
    }
}

#[cfg(test)]
mod tests;
