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
}

impl RejectionCode {
    pub const ALL: [RejectionCode; 6] = [
        RejectionCode::Expired,
        RejectionCode::DependencyRejected,
        RejectionCode::DependencyMissing,
        RejectionCode::Conflict,
        RejectionCode::Overdraft,
        RejectionCode::Overflow,
    ];

    pub fn name(self) -> &'static str {
        match self {
            RejectionCode::Expired => "EXPIRED",
            RejectionCode::DependencyRejected => "DEPENDENCY_REJECTED",
            RejectionCode::DependencyMissing => "DEPENDENCY_MISSING",
            RejectionCode::Conflict => "CONFLICT",
            RejectionCode::Overdraft => "OVERDRAFT",
            RejectionCode::Overflow => "OVERFLOW",
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
        }
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
