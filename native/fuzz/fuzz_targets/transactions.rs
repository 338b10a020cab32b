//! Bytes as transactions: nothing panics, nothing is admitted without a signature, and what is
//! read can be written down again.

#![no_main]

use citychain_core::signatures::{KeyCache, PUBLIC_KEY_BYTES, SIGNATURE_BYTES};
use citychain_core::transactions::{
    Action, Body, Delivery, Limits, ObjectVersion, Rules, Stake, StoredForm, check, decode,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const AUTHOR: &[u8; 32] = &[2; 32];

/// A whole transaction, and what becomes of the fields of its messages.
#[derive(Arbitrary, Debug)]
struct Input {
    kind: Kind,
    action: Vec<Edit>,
    body: Vec<Edit>,
    envelope: Vec<Edit>,
}

/// The number of the action's field is 16 more.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Data,
    Transfer,
    Presence,
    Candidacy,
    Withdrawal,
    Witness,
    Equivocation,
    Recovery,
    Peer,
    Remittance,
    Delivery,
    Settlement,
    Anchor,
    Reward,
}

#[derive(Arbitrary, Debug)]
enum Edit {
    Remove(u8),
    Repeat(u8),
    Swap(u8, u8),
    Flip(u8, u16),
    Insert(u8, Value),
    Replace(u8, Value),
}

#[derive(Arbitrary, Debug)]
enum Value {
    Integer(u8, u64),
    Bytes(u8, Vec<u8>),
    Message(u8, Vec<Value>),
    Raw(Vec<u8>),
}

fuzz_target!(|input: Input| {
    let action = edited(good_action(input.kind), &input.action);
    let body = good_body(chunk(16 + input.kind as u64, &action));
    let body = edited(body.into(), &input.body);
    read_body(&body);
    read_envelope(&edited(stored(&body).into(), &input.envelope));
});

/// The canonical encoding of what was read reads as the same.
fn read_body(bytes: &[u8]) {
    let parsed = Body::parse(bytes, &Limits::DEFAULT);
    if let Ok(body) = &parsed {
        assert_eq!(Body::parse(&encode(body), &Limits::DEFAULT), parsed);
    }
    let whole = stored(bytes).concat();
    let is_by_author = parsed.is_ok_and(|body| body.author == AUTHOR);
    assert_eq!(decode(&whole).is_ok(), is_by_author);
}

/// What counts as the stored form is it byte for byte, and a forged signature admits nothing.
fn read_envelope(bytes: &[u8]) {
    let rules = Rules {
        genesis: &[1; 32],
        keys: &KeyCache::new(1, 1),
        limits: &Limits::DEFAULT,
        now_ms: 1,
    };
    assert!(check(bytes, &rules).is_err());
    if let Ok(decoded) = decode(bytes) {
        let form = StoredForm::new(decoded.envelope.body.len());
        let mut written = vec![0; form.size()];
        form.write(&decoded.envelope, decoded.author, &mut written);
        assert_eq!(written, bytes);
        assert_eq!(&written[form.body()], decoded.envelope.body);
    }
}

fn edited(mut fields: Vec<Vec<u8>>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let count = fields.len().max(1);
        let index = |at: &u8| usize::from(*at) % count;
        match edit {
            Edit::Insert(at, value) => fields.insert(index(at), encode_value(value)),
            _ if fields.is_empty() => {}
            Edit::Remove(at) => drop(fields.remove(index(at))),
            Edit::Repeat(at) => fields.push(fields[index(at)].clone()),
            Edit::Swap(at, other) => fields.swap(index(at), index(other)),
            Edit::Replace(at, value) => {
                let at = index(at);
                fields[at] = encode_value(value);
            }
            Edit::Flip(at, bit) => {
                let at = index(at);
                let (byte, bit) = (usize::from(bit / 8), bit % 8);
                fields[at]
                    .get_mut(byte)
                    .into_iter()
                    .for_each(|byte| *byte ^= 1 << bit);
            }
        }
    }
    fields.concat()
}

fn encode_value(value: &Value) -> Vec<u8> {
    match value {
        Value::Integer(number, value) => integer((*number).into(), *value),
        Value::Bytes(number, value) => chunk((*number).into(), value),
        Value::Message(number, values) => {
            let fields: Vec<_> = values.iter().map(encode_value).collect();
            chunk((*number).into(), &fields.concat())
        }
        Value::Raw(bytes) => bytes.clone(),
    }
}

fn good_action(kind: Kind) -> Vec<Vec<u8>> {
    let (hash, other) = ([3; 32], [4; 32]);
    let signature = [5; SIGNATURE_BYTES];
    let signed = |key: &[u8; 32]| chunk(7, &[chunk(1, key), chunk(2, &signature)].concat());
    let seat = |key: &[u8; 32]| chunk(3, &[chunk(1, key), integer(2, 1)].concat());
    match kind {
        Kind::Data => vec![chunk(1, b"text/plain"), chunk(2, b"hello")],
        Kind::Transfer => vec![chunk(1, b"yen"), chunk(2, &hash), integer(3, 1)],
        Kind::Presence => vec![
            integer(1, 1),
            integer(2, 2),
            integer(3, 3),
            integer(4, 4),
            integer(5, 5),
            chunk(6, &hash),
            signed(&hash),
            signed(&other),
        ],
        Kind::Candidacy | Kind::Withdrawal => vec![chunk(1, b"yen"), integer(2, 1)],
        Kind::Witness => vec![chunk(1, &[6; PUBLIC_KEY_BYTES]), integer(2, 1)],
        Kind::Equivocation => vec![
            chunk(1, &[6; PUBLIC_KEY_BYTES]),
            integer(2, 1),
            chunk(3, &hash),
            chunk(4, &signature),
            chunk(5, &other),
            chunk(6, &signature),
        ],
        Kind::Recovery => vec![integer(1, 1), chunk(2, &hash), seat(&hash), seat(&other)],
        Kind::Peer => vec![chunk(1, b"{}")],
        Kind::Remittance => vec![
            chunk(1, b"yen"),
            chunk(2, &hash),
            chunk(3, &other),
            integer(4, 1),
        ],
        Kind::Delivery => vec![
            chunk(1, &hash),
            chunk(2, &other),
            chunk(3, b"yen"),
            chunk(4, &hash),
            integer(5, 1),
            chunk(6, b"proof"),
            chunk(7, b"NO_1"),
            chunk(8, b"why"),
        ],
        Kind::Settlement => vec![
            chunk(1, &hash),
            chunk(2, &other),
            chunk(3, &hash),
            chunk(4, b"yen"),
            integer(5, 1),
            integer(6, 1),
            chunk(7, b"proof"),
        ],
        Kind::Anchor => vec![chunk(1, &hash), chunk(2, &[7; 42]), chunk(3, b"proof")],
        Kind::Reward => vec![
            integer(1, 1),
            chunk(2, b"yen"),
            chunk(3, &hash),
            integer(4, 1),
        ],
    }
}

fn good_body(action: Vec<u8>) -> [Vec<u8>; 8] {
    let object = ObjectVersion {
        object: "road",
        version: 1,
    };
    [
        chunk(1, &[1; 32]),
        chunk(2, AUTHOR),
        chunk(3, &[0; 8]),
        integer(4, 1),
        action,
        chunk(6, &[4; 32]),
        chunk(7, &encode_object(&object)),
        chunk(8, &encode_object(&object)),
    ]
}

fn stored(body: &[u8]) -> [Vec<u8>; 4] {
    [
        chunk(1, body),
        integer(2, 1),
        chunk(4, AUTHOR),
        chunk(5, &[0; SIGNATURE_BYTES]),
    ]
}

fn encode(body: &Body<'_>) -> Vec<u8> {
    let mut fields = vec![
        chunk(1, body.genesis),
        chunk(2, body.author),
        chunk(3, body.nonce),
        integer(4, body.created_at_ms),
    ];
    fields.extend(body.valid_until_ms.map(|until| integer(5, until)));
    fields.extend(body.depends_on.iter().map(|id| chunk(6, *id)));
    fields.extend(body.reads.iter().map(|read| chunk(7, &encode_object(read))));
    fields.extend(
        body.writes
            .iter()
            .map(|write| chunk(8, &encode_object(write))),
    );
    fields.push(encode_action(&body.action));
    fields.concat()
}

fn encode_action(action: &Action<'_>) -> Vec<u8> {
    let (kind, fields) =
        match action {
            Action::Data {
                content_type,
                content,
            } => (
                Kind::Data,
                vec![chunk(1, content_type.as_bytes()), chunk(2, content)],
            ),
            Action::Transfer { asset, to, amount } => (
                Kind::Transfer,
                vec![
                    chunk(1, asset.as_bytes()),
                    chunk(2, *to),
                    integer(3, *amount),
                ],
            ),
            Action::Presence(claim) => {
                let mut fields = vec![
                    integer(1, zigzag(claim.latitude_e7)),
                    integer(2, zigzag(claim.longitude_e7)),
                    integer(3, claim.accuracy_m.into()),
                    integer(4, claim.first_round),
                    integer(5, claim.last_round),
                    chunk(6, claim.anchor),
                ];
                fields.extend(claim.witnesses.iter().map(|witness| {
                    chunk(
                        7,
                        &[chunk(1, witness.key_id), chunk(2, witness.signature)].concat(),
                    )
                }));
                (Kind::Presence, fields)
            }
            Action::Candidacy(stake) => (Kind::Candidacy, encode_stake(stake)),
            Action::Withdrawal(stake) => (Kind::Withdrawal, encode_stake(stake)),
            Action::Witness {
                public_key,
                revoked,
            } => (
                Kind::Witness,
                vec![chunk(1, *public_key), integer(2, (*revoked).into())],
            ),
            Action::Equivocation(votes) => (
                Kind::Equivocation,
                vec![
                    chunk(1, votes.public_key),
                    integer(2, votes.round),
                    chunk(3, votes.first_hash),
                    chunk(4, votes.first_signature),
                    chunk(5, votes.second_hash),
                    chunk(6, votes.second_signature),
                ],
            ),
            Action::Recovery(recovery) => {
                let mut fields = vec![integer(1, recovery.from_round), chunk(2, recovery.previous)];
                fields.extend(recovery.seats.iter().map(|seat| {
                    chunk(3, &[chunk(1, seat.key_id), integer(2, seat.stake)].concat())
                }));
                (Kind::Recovery, fields)
            }
            Action::Peer { genesis_file } => (Kind::Peer, vec![chunk(1, genesis_file)]),
            Action::Remittance(sent) => (
                Kind::Remittance,
                vec![
                    chunk(1, sent.asset.as_bytes()),
                    chunk(2, sent.city),
                    chunk(3, sent.to),
                    integer(4, sent.amount),
                ],
            ),
            Action::Delivery(delivery) => (Kind::Delivery, encode_delivery(delivery)),
            Action::Settlement(settlement) => (
                Kind::Settlement,
                vec![
                    chunk(1, settlement.tx_id),
                    chunk(2, settlement.payer),
                    chunk(3, settlement.city),
                    chunk(4, settlement.asset.as_bytes()),
                    integer(5, settlement.amount),
                    integer(6, settlement.returned.into()),
                    chunk(7, settlement.proof),
                ],
            ),
            Action::Anchor(anchor) => {
                // Whatever stands there.
                let _ = anchor.round();
                let fields = vec![
                    chunk(1, anchor.city),
                    chunk(2, anchor.checkpoint),
                    chunk(3, anchor.proof),
                ];
                (Kind::Anchor, fields)
            }
            Action::Reward(reward) => (
                Kind::Reward,
                vec![
                    integer(1, reward.epoch),
                    chunk(2, reward.asset.as_bytes()),
                    chunk(3, reward.to),
                    integer(4, reward.amount),
                ],
            ),
        };
    chunk(16 + kind as u64, &fields.concat())
}

fn encode_delivery(delivery: &Delivery<'_>) -> Vec<Vec<u8>> {
    let mut fields = vec![
        chunk(1, delivery.city),
        chunk(2, delivery.tx_id),
        chunk(3, delivery.asset.as_bytes()),
        chunk(4, delivery.to),
        integer(5, delivery.amount),
        chunk(6, delivery.proof),
    ];
    if let Some(refusal) = &delivery.refusal {
        fields.push(chunk(7, refusal.code.as_bytes()));
        fields.push(chunk(8, refusal.reason.as_bytes()));
    }
    fields
}

fn encode_stake(stake: &Stake<'_>) -> Vec<Vec<u8>> {
    vec![chunk(1, stake.asset.as_bytes()), integer(2, stake.amount)]
}

fn zigzag(value: i32) -> u64 {
    let value = i64::from(value);
    (if value < 0 { -2 * value - 1 } else { 2 * value }) as u64
}

fn encode_object(entry: &ObjectVersion<'_>) -> Vec<u8> {
    [chunk(1, entry.object.as_bytes()), integer(2, entry.version)].concat()
}

fn integer(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn chunk(number: u64, value: &[u8]) -> Vec<u8> {
    let tag = varint(number << 3 | 2);
    [tag, varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value > 0x7f {
        encoded.push(value as u8 | 0x80);
        value >>= 7;
    }
    encoded.push(value as u8);
    encoded
}
