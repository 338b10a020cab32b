//! What a transaction moves between balances.

use sha2::{Digest, Sha256};

use super::exchange::escrow_account;
use super::state::balance_object;
use crate::Hash;
use crate::transactions::{Action, Body};

pub struct Payment<'a> {
    pub asset: &'a str,
    pub from: Hash,
    pub to: Hash,
    pub amount: u64,
}

impl<'a> Payment<'a> {
    /// A transfer, a reward, what goes into the author's stake or out of it, into the escrow of another city
    /// or back from there; other actions move nothing between two balances.
    pub fn of(body: &Body<'a>) -> Option<Self> {
        let author = *body.author;
        let (asset, from, to, amount) = match &body.action {
            Action::Transfer { asset, to, amount } => (*asset, author, **to, *amount),
            Action::Reward(reward) => (reward.asset, author, *reward.to, reward.amount),
            Action::Candidacy(stake) => (stake.asset, author, stake_account(&author), stake.amount),
            Action::Withdrawal(stake) => {
                (stake.asset, stake_account(&author), author, stake.amount)
            }
            Action::Remittance(sent) => {
                (sent.asset, author, escrow_account(sent.city), sent.amount)
            }
            Action::Settlement(settlement) if settlement.returned => (
                settlement.asset,
                escrow_account(settlement.city),
                *settlement.payer,
                settlement.amount,
            ),
            _ => return None,
        };
        Some(Payment {
            asset,
            from,
            to,
            amount,
        })
    }

    /// The balances of payer and payee.
    pub fn objects(&self) -> [String; 2] {
        [&self.from, &self.to].map(|key| balance_object(self.asset, key))
    }
}

/// `SHA256("citychain/stake/v1\0" ‖ key id)`: stands where a key id stands, and holds the key's
/// stake. It is no key's id, so nobody signs for it.
pub fn stake_account(key_id: &Hash) -> Hash {
    Sha256::new_with_prefix(b"citychain/stake/v1\0")
        .chain_update(key_id)
        .finalize()
        .into()
}
