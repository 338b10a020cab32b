//! What cities say to each other, and the objects in which a city keeps it.
//!
//! That proofs hold, and that the city named is pinned, is judged before; here is what depends on
//! the ledger as it stands in the middle of a round. Integers are big-endian, ids in names
//! lower-case hex:
//!
//! ```text
//! $peer/<genesis id>/<n>          the n-th 16,384 bytes of that city's genesis file
//! $peer-name/<network>/<city>     genesis id 32
//! $outbox/<tx id>                 status 1 | payer 32 | city 32 | to 32 | amount 8 | asset
//! $inbox/<genesis id>/<tx id>     outcome 1 | id of the delivery 32
//! $anchor/<genesis id>            round 8 | checkpoint hash 32
//! ```
//!
//! A status is 1 (pending), 2 (delivered) or 3 (returned), an outcome 1 (accepted) or 2 (refused).

use std::borrow::Cow;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::payment::Payment;
use super::rejection::{Rejection, RejectionCode, Stop};
use super::reward;
use super::state::{State, balance_object, hex};
use crate::Hash;
use crate::transactions::{Action, Anchor, Body, Delivery, Remittance, Settlement};

/// How much of a genesis file one object holds: the most that a record has room for.
const CHUNK_BYTES: usize = 16_384;

/// The longest name of a network or a city.
const NAME_BYTES_MAX: usize = 63;

const PENDING: u8 = 1;
const DELIVERED: u8 = 2;
const RETURNED: u8 = 3;
const ACCEPTED: u8 = 1;
const REFUSED: u8 = 2;
/// What of an outbox's value stands before the asset.
const OUTBOX_BYTES: usize = 1 + 32 + 32 + 32 + 8;

/// `SHA256("citychain/escrow/v1\0" ‖ genesis id)`: stands where a key id stands, and holds what is
/// on its way to that city. It is no key's id, so nobody signs for it.
pub fn escrow_account(city: &Hash) -> Hash {
    Sha256::new_with_prefix(b"citychain/escrow/v1\0")
        .chain_update(city)
        .finalize()
        .into()
}

/// The objects that decide about a transaction, but for those of its [`Payment`].
pub fn objects(body: &Body<'_>) -> Vec<String> {
    match &body.action {
        Action::Peer { genesis_file } => {
            let first = peer_object(&genesis_id(genesis_file), 0);
            let name = Named::read(genesis_file);
            let name = name.map(|name| peer_name_object(&name.network, &name.city));
            [first].into_iter().chain(name).collect()
        }
        Action::Delivery(delivery) => {
            let inbox = inbox_object(delivery.city, delivery.tx_id);
            match delivery.refusal {
                None => vec![inbox, balance_object(delivery.asset, delivery.to)],
                Some(_) => vec![inbox],
            }
        }
        Action::Settlement(settlement) => {
            let escrow = balance_object(settlement.asset, &escrow_account(settlement.city));
            vec![outbox_object(settlement.tx_id), escrow]
        }
        Action::Anchor(anchor) => vec![anchor_object(anchor.city)],
        Action::Reward(reward) => vec![reward::reward_object(reward)],
        _ => Vec::new(),
    }
}

/// Does what an action says, all of it or nothing.
pub fn act<'a>(state: &mut State<'a>, tx_id: &Hash, body: &Body<'a>) -> Result<(), Stop> {
    match &body.action {
        Action::Peer { genesis_file } => pin(state, genesis_file),
        Action::Delivery(delivery) => deliver(state, tx_id, delivery),
        Action::Settlement(settlement) => settle(state, body, settlement),
        Action::Anchor(anchor) => keep(state, anchor),
        action => {
            let Some(payment) = Payment::of(body) else {
                return Ok(());
            };
            if let Action::Reward(reward) = action {
                return reward::pay(state, tx_id, reward, &payment);
            }
            state.pay(&payment)?;
            if let Action::Remittance(remittance) = action {
                send(state, tx_id, body.author, remittance);
            }
            Ok(())
        }
    }
}

fn pin<'a>(state: &mut State<'a>, file: &'a [u8]) -> Result<(), Stop> {
    let id = genesis_id(file);
    if state.value(&peer_object(&id, 0)).is_some() {
        let reason = format!("{} is a peer already", hex(&id));
        return Err(Rejection::new(RejectionCode::PeerKnown, reason).into());
    }
    let Some(Named { network, city }) = Named::read(file) else {
        let reason = "the file is no genesis".to_owned();
        return Err(Rejection::new(RejectionCode::BadGenesis, reason).into());
    };
    let name = peer_name_object(&network, &city);
    if let Some(pinned) = state.value(&name) {
        let pinned = hex(exactly(&name, pinned)?);
        let reason = format!("{network}/{city} is a peer with the genesis {pinned}");
        return Err(Rejection::new(RejectionCode::PeerChanged, reason).into());
    }
    for (n, chunk) in file.chunks(CHUNK_BYTES).enumerate() {
        state.put_next(peer_object(&id, n), chunk.into());
    }
    state.put_next(name, id.to_vec().into());
    Ok(())
}

/// Puts a remittance that is paid into the outbox.
fn send(state: &mut State<'_>, tx_id: &Hash, payer: &Hash, remittance: &Remittance<'_>) {
    let value = [
        &[PENDING],
        &payer[..],
        remittance.city,
        remittance.to,
        &remittance.amount.to_be_bytes(),
        remittance.asset.as_bytes(),
    ];
    state.put_next(outbox_object(tx_id), value.concat().into());
}

fn deliver(state: &mut State<'_>, tx_id: &Hash, delivery: &Delivery<'_>) -> Result<(), Stop> {
    let inbox = inbox_object(delivery.city, delivery.tx_id);
    if let Some(value) = state.value(&inbox) {
        let (outcome, first) = exactly::<33>(&inbox, value)?.split_at(1);
        let outcome = match outcome == [ACCEPTED] {
            true => "accepted",
            false => "refused",
        };
        let first = hex(exactly(&inbox, first)?);
        let reason = format!("{} was {outcome} by {first}", hex(delivery.tx_id));
        return Err(Rejection::new(RejectionCode::Delivered, reason).into());
    }
    let outcome = match delivery.refusal {
        Some(_) => REFUSED,
        None => {
            state.mint(delivery.asset, delivery.to, delivery.amount)?;
            ACCEPTED
        }
    };
    state.put_next(inbox, [&[outcome], &tx_id[..]].concat().into());
    Ok(())
}

fn settle(state: &mut State<'_>, body: &Body<'_>, settlement: &Settlement<'_>) -> Result<(), Stop> {
    let outbox = outbox_object(settlement.tx_id);
    let remittance = hex(settlement.tx_id);
    let Some(value) = state.value(&outbox) else {
        let reason = format!("this city sent no {remittance}");
        return Err(Rejection::new(RejectionCode::Mismatch, reason).into());
    };
    let Some((sent, asset)) = value.split_at_checked(OUTBOX_BYTES) else {
        let message = format!("the value of {outbox:?} must be more than {OUTBOX_BYTES} bytes");
        return Err(message.into());
    };
    if sent[0] != PENDING {
        let outcome = match sent[0] == DELIVERED {
            true => "delivered",
            false => "returned",
        };
        let reason = format!("{remittance} was {outcome}");
        return Err(Rejection::new(RejectionCode::Settled, reason).into());
    }
    let fields = [
        ("payer", &sent[1..33] == settlement.payer),
        ("city", &sent[33..65] == settlement.city),
        ("amount", sent[97..] == settlement.amount.to_be_bytes()),
        ("asset", asset == settlement.asset.as_bytes()),
    ];
    if let Some((field, _)) = fields.iter().find(|(_, is_same)| !is_same) {
        let reason = format!("{remittance} has another {field}");
        return Err(Rejection::new(RejectionCode::Mismatch, reason).into());
    }
    let mut value = value.to_vec();
    match Payment::of(body) {
        Some(back) => {
            value[0] = RETURNED;
            state.pay(&back)?;
        }
        None => {
            value[0] = DELIVERED;
            let Settlement { asset, amount, .. } = *settlement;
            state.burn(asset, &escrow_account(settlement.city), amount)?;
        }
    }
    state.put_next(outbox, value.into());
    Ok(())
}

fn keep(state: &mut State<'_>, anchor: &Anchor<'_>) -> Result<(), Stop> {
    let (object, round) = (anchor_object(anchor.city), anchor.round());
    if let Some(value) = state.value(&object) {
        let kept = exactly::<40>(&object, value)?.first_chunk();
        let kept = u64::from_be_bytes(*kept.expect("40 bytes begin with 8"));
        if round <= kept {
            let reason = format!("round {round} does not come after round {kept}");
            return Err(Rejection::new(RejectionCode::Anchored, reason).into());
        }
    }
    let hash = Sha256::new_with_prefix(b"citychain/checkpoint/v1\0")
        .chain_update(anchor.checkpoint)
        .finalize();
    state.put_next(object, [&round.to_be_bytes(), &hash[..]].concat().into());
    Ok(())
}

/// What of a genesis file names the city for people.
#[derive(Deserialize)]
struct Named<'f> {
    #[serde(borrow)]
    network: Cow<'f, str>,
    #[serde(borrow)]
    city: Cow<'f, str>,
}

impl<'f> Named<'f> {
    /// None if both are not there, or not what can stand in an object's name.
    fn read(file: &'f [u8]) -> Option<Self> {
        let named: Self = serde_json::from_slice(file).ok()?;
        let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let fits = |name: &str| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && name.as_bytes().iter().all(allowed)
        };
        (fits(&named.network) && fits(&named.city)).then_some(named)
    }
}

/// `SHA256("citychain/genesis/v1\0" ‖ file)`.
fn genesis_id(file: &[u8]) -> Hash {
    Sha256::new_with_prefix(b"citychain/genesis/v1\0")
        .chain_update(file)
        .finalize()
        .into()
}

fn peer_object(city: &Hash, n: usize) -> String {
    format!("$peer/{}/{n}", hex(city))
}

fn peer_name_object(network: &str, city: &str) -> String {
    format!("$peer-name/{network}/{city}")
}

fn outbox_object(tx_id: &Hash) -> String {
    format!("$outbox/{}", hex(tx_id))
}

fn inbox_object(city: &Hash, tx_id: &Hash) -> String {
    format!("$inbox/{}/{}", hex(city), hex(tx_id))
}

fn anchor_object(city: &Hash) -> String {
    format!("$anchor/{}", hex(city))
}

/// A value of which only one length can be.
fn exactly<'v, const N: usize>(object: &str, value: &'v [u8]) -> Result<&'v [u8; N], Stop> {
    value
        .try_into()
        .map_err(|_| Stop::Impossible(format!("the value of {object:?} must be {N} bytes")))
}
