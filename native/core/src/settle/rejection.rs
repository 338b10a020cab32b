//! Why settling rejects a transaction: a code for programs, a reason for people.

/// The longest reason of a rejection, in bytes of UTF-8.
pub const REASON_BYTES_MAX: usize = 255;

/// Why settling rejects a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionCode {
    Expired,
    DependencyRejected,
    DependencyMissing,
    Conflict,
    Overdraft,
    Overflow,
    BadGenesis,
    PeerKnown,
    PeerChanged,
    Delivered,
    Settled,
    Mismatch,
    Anchored,
    Rewarded,
}

impl RejectionCode {
    pub const ALL: [RejectionCode; 14] = [
        RejectionCode::Expired,
        RejectionCode::DependencyRejected,
        RejectionCode::DependencyMissing,
        RejectionCode::Conflict,
        RejectionCode::Overdraft,
        RejectionCode::Overflow,
        RejectionCode::BadGenesis,
        RejectionCode::PeerKnown,
        RejectionCode::PeerChanged,
        RejectionCode::Delivered,
        RejectionCode::Settled,
        RejectionCode::Mismatch,
        RejectionCode::Anchored,
        RejectionCode::Rewarded,
    ];

    pub fn name(self) -> &'static str {
        match self {
            RejectionCode::Expired => "EXPIRED",
            RejectionCode::DependencyRejected => "DEPENDENCY_REJECTED",
            RejectionCode::DependencyMissing => "DEPENDENCY_MISSING",
            RejectionCode::Conflict => "CONFLICT",
            RejectionCode::Overdraft => "OVERDRAFT",
            RejectionCode::Overflow => "OVERFLOW",
            RejectionCode::BadGenesis => "BAD_GENESIS",
            RejectionCode::PeerKnown => "PEER_KNOWN",
            RejectionCode::PeerChanged => "PEER_CHANGED",
            RejectionCode::Delivered => "DELIVERED",
            RejectionCode::Settled => "SETTLED",
            RejectionCode::Mismatch => "MISMATCH",
            RejectionCode::Anchored => "ANCHORED",
            RejectionCode::Rewarded => "REWARDED",
        }
    }

    /// One sentence for people: when this code is given.
    pub fn meaning(self) -> &'static str {
        match self {
            RejectionCode::Expired => "The round's time is later than valid_until_ms.",
            RejectionCode::DependencyRejected => "A transaction it depends on was rejected.",
            RejectionCode::DependencyMissing => {
                "A transaction it depends on did not come within the rounds it was held for."
            }
            RejectionCode::Conflict => {
                "An object that it reads or writes is not at the version that it names."
            }
            RejectionCode::Overdraft => "The author's balance, or stake, is less than the amount.",
            RejectionCode::Overflow => "The payee's balance would not fit into 64 bits.",
            RejectionCode::BadGenesis => "The peer's file is not the genesis of another city.",
            RejectionCode::PeerKnown => "The city is a peer already.",
            RejectionCode::PeerChanged => "A peer of this name has another genesis.",
            RejectionCode::Delivered => "The remittance has its outcome here already.",
            RejectionCode::Settled => "What became of the remittance is known here already.",
            RejectionCode::Mismatch => "This city sent no such remittance.",
            RejectionCode::Anchored => "The checkpoint is not later than the one that is kept.",
            RejectionCode::Rewarded => "The key was paid for the epoch already.",
        }
    }
}

/// Why an action is not done.
#[derive(Debug)]
pub(super) enum Stop {
    Rejected(Rejection),
    /// A given state cannot be; says which.
    Impossible(String),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Stop::Rejected(rejection)
    }
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Stop::Impossible(message)
    }
}

/// A rejection with a reason of at most `REASON_BYTES_MAX` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub code: RejectionCode,
    pub reason: String,
}

impl Rejection {
    /// Cuts the reason to its bound, between characters.
    pub(super) fn new(code: RejectionCode, mut reason: String) -> Self {
        let is_end = |at: &usize| reason.is_char_boundary(*at);
        let end = (0..=reason.len().min(REASON_BYTES_MAX)).rev().find(is_end);
        reason.truncate(end.unwrap_or(0));
        Rejection { code, reason }
    }
}
