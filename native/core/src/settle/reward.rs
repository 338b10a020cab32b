//! What a city pays, once for each key and epoch.
//!
//! Who may pay, and how much is due, is judged elsewhere. Integers are big-endian, the epoch in the
//! name 16 lower-case hex digits, the key id lower-case hex:
//!
//! ```text
//! $reward/<epoch>/<key id>    id of the payment 32 | amount 8 | asset
//! ```

use super::payment::Payment;
use super::rejection::{Rejection, RejectionCode, Stop};
use super::state::{State, hex};
use crate::Hash;
use crate::transactions::Reward;

/// What of a value stands before the asset.
const VALUE_BYTES: usize = 32 + 8;

/// Pays, unless the key was paid for the epoch.
pub fn pay(
    state: &mut State<'_>,
    tx_id: &Hash,
    reward: &Reward<'_>,
    payment: &Payment<'_>,
) -> Result<(), Stop> {
    let object = reward_object(reward);
    if let Some(value) = state.value(&object) {
        return Err(paid(&object, reward, value));
    }
    state.pay(payment)?;
    let amount = reward.amount.to_be_bytes();
    let value = [&tx_id[..], &amount, reward.asset.as_bytes()].concat();
    state.put_next(object, value.into());
    Ok(())
}

/// The object that says whether a key was paid for an epoch.
pub fn reward_object(reward: &Reward<'_>) -> String {
    format!("$reward/{:016x}/{}", reward.epoch, hex(reward.to))
}

fn paid(object: &str, reward: &Reward<'_>, value: &[u8]) -> Stop {
    let parts = value.split_first_chunk::<32>().and_then(|(tx_id, rest)| {
        let (amount, asset) = rest.split_first_chunk()?;
        Some((tx_id, u64::from_be_bytes(*amount), asset))
    });
    let Some((tx_id, amount, asset)) = parts else {
        let message = format!("the value of {object:?} must be more than {VALUE_BYTES} bytes");
        return message.into();
    };
    let asset = String::from_utf8_lossy(asset);
    let reason = format!(
        "for epoch {} the key was paid {amount} {asset} by {}",
        reward.epoch,
        hex(tx_id)
    );
    Rejection::new(RejectionCode::Rewarded, reason).into()
}
