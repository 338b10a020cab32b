use super::wire::{Field, Kind, Occurs, Reader, signed};
use super::*;
use crate::signatures::{KeyCache, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey};

fn varint(mut value: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value > 0x7f {
        encoded.push(value as u8 | 0x80);
        value >>= 7;
    }
    encoded.push(value as u8);
    encoded
}

fn integer(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn chunk(number: u64, value: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | 2), &varint(value.len() as u64), value].concat()
}

fn sample_body(author: &[u8; 32]) -> Vec<u8> {
    [
        chunk(1, &[7; 32]),
        chunk(2, author),
        chunk(3, b"12345678"),
        integer(4, 1_000),
        integer(5, 2_000),
        chunk(6, &[1; 32]),
        chunk(6, &[2; 32]),
        chunk(7, &[chunk(1, b"road"), integer(2, 300)].concat()),
        chunk(8, &[chunk(1, "école".as_bytes()), integer(2, 0)].concat()),
        chunk(16, &[chunk(1, b"text/plain"), chunk(2, b"hello")].concat()),
    ]
    .concat()
}

fn sample_envelope() -> (Vec<u8>, [u8; 32]) {
    let key = SigningKey::from_seed(&[3; 32]);
    let author = key_id(SCHEME_ML_DSA_87, key.public_key());
    let body = sample_body(&author);
    let signature = key.sign(&body, SIGNATURE_CONTEXT, true).expect("signs");
    let parts = [
        chunk(1, &body),
        integer(2, 1),
        chunk(3, key.public_key()),
        chunk(5, &signature),
    ];
    (parts.concat(), author)
}

fn check_sample(envelope: &[u8], keys: &KeyCache) -> Result<[u8; 32], Refusal> {
    let rules = Rules {
        genesis: &[7; 32],
        keys,
        limits: &Limits::DEFAULT,
        now_ms: 2_000,
    };
    check(envelope, &rules).map(|checked| checked.tx_id)
}

#[test]
fn a_body_is_read_field_by_field() {
    let bytes = sample_body(&[9; 32]);
    let body = Body::parse(&bytes, &Limits::DEFAULT).expect("is well-formed");
    assert_eq!(body.genesis, &[7; 32]);
    assert_eq!(body.author, &[9; 32]);
    assert_eq!(body.nonce, b"12345678");
    assert_eq!(
        (body.created_at_ms, body.valid_until_ms),
        (1_000, Some(2_000))
    );
    assert_eq!(body.depends_on, [&[1; 32], &[2; 32]]);
    let (road, school) = (body.reads[0], body.writes[0]);
    assert_eq!((road.object, road.version), ("road", 300));
    assert_eq!((school.object, school.version), ("école", 0));
    let action = Action::Data {
        content_type: "text/plain",
        content: b"hello",
    };
    assert_eq!(body.action, action);
}

#[test]
fn a_varint_has_one_form() {
    const SCHEMA: &[Field] = &[Field(1, "value", Kind::Integer, Occurs::Once)];
    let read = |bytes: &[u8]| {
        let message = [&[0x08], bytes].concat();
        let mut reader = Reader::new(&message, SCHEMA);
        let value = reader.next().map(|field| field.expect("is there").integer);
        value.map_err(|refusal| refusal.detail)
    };
    for value in [
        0,
        1,
        127,
        128,
        16_383,
        16_384,
        u64::from(u32::MAX),
        u64::MAX - 1,
        u64::MAX,
    ] {
        assert_eq!(read(&varint(value)), Ok(value));
    }
    let maximum = varint(u64::MAX);
    for length in 0..maximum.len() {
        assert!(read(&maximum[..length]).unwrap_err().contains("truncated"));
    }
    for longer in [&[0x80, 0][..], &[0xff, 0], &[0x81, 0x80, 0]] {
        assert!(read(longer).unwrap_err().contains("not minimal"));
    }
    for wider in [
        [&[0xff; 9][..], &[2]].concat(),
        vec![0x80; 10],
        vec![0xff; 20],
    ] {
        assert!(read(&wider).unwrap_err().contains("more than 64 bits"));
    }
}

#[test]
fn no_prefix_of_a_body_is_one_and_no_changed_byte_reads_the_same() {
    let original = sample_body(&[9; 32]);
    let read = |bytes: &[u8]| Body::parse(bytes, &Limits::DEFAULT).map(|body| format!("{body:?}"));
    let unchanged = read(&original);
    assert!(unchanged.is_ok());
    for length in 0..original.len() {
        assert!(read(&original[..length]).is_err());
    }
    for at in 0..original.len() {
        for value in (0..=255).filter(|value| *value != original[at]) {
            let mut changed = original.clone();
            changed[at] = value;
            assert_ne!(read(&changed), unchanged, "byte {at} as {value}");
        }
    }
}

#[test]
fn no_changed_byte_of_an_envelope_is_admitted() {
    let (envelope, author) = sample_envelope();
    let keys = KeyCache::new(4, 4);
    assert_eq!(
        check_sample(&envelope, &keys),
        Ok(tx_id(&sample_body(&author)))
    );
    // Without the key and the signature, which are random bytes of a fixed length.
    let spared = envelope.len() - SIGNATURE_BYTES - PUBLIC_KEY_BYTES;
    for at in (0..spared).chain([envelope.len() - SIGNATURE_BYTES - 3, envelope.len() - 1]) {
        for bit in 0..8 {
            let mut changed = envelope.clone();
            changed[at] ^= 1 << bit;
            assert!(
                check_sample(&changed, &keys).is_err(),
                "byte {at}, bit {bit}"
            );
        }
    }
}

#[test]
fn the_stored_form_of_a_stored_form_is_itself() {
    let (received, author) = sample_envelope();
    let envelope = Envelope::parse(&received).expect("is well-formed");
    assert!(!envelope.is_stored_form);
    let form = StoredForm::new(envelope.body.len());
    let mut stored = vec![0xee; form.size()];
    form.write(&envelope, &author, &mut stored);
    let again = Envelope::parse(&stored).expect("is well-formed");
    assert!(again.is_stored_form);
    assert_eq!(again.signer, Signer::KeyId(&author));
    assert_eq!(&stored[form.body()], envelope.body);
    assert_eq!(&stored[form.signature()], envelope.signature);
    assert_eq!(
        decode(&stored).expect("is stored").tx_id,
        tx_id(envelope.body)
    );
    let mut copy = vec![0; form.size()];
    form.write(&again, &author, &mut copy);
    assert_eq!(copy, stored);
}

#[test]
fn a_path_leads_to_the_field() {
    let author = [9; 32];
    let twice = [chunk(8, &chunk(1, b"road")), chunk(8, &chunk(1, b"road"))].concat();
    let bytes = [sample_body(&author), twice].concat();
    let refusal = Body::parse(&bytes, &Limits::DEFAULT)
        .unwrap_err()
        .within("body");
    assert_eq!(
        refusal.to_string(),
        "MALFORMED: body.writes[2].object is named by an earlier entry too"
    );
}

#[test]
fn a_signed_integer_is_read_to_both_ends_and_not_past_32_bits() {
    for value in [0, -1, 1, -2, 900_000_000, i32::MAX - 1, i32::MAX, i32::MIN] {
        let zigzag = (value << 1) ^ (value >> 31);
        assert_eq!(signed(u64::from(zigzag as u32), "x"), Ok(value));
    }
    for wide in [1 << 32, u64::MAX] {
        assert!(signed(wide, "x").unwrap_err().detail.contains("32 bits"));
    }
}

#[test]
fn each_action_is_read_under_its_name() {
    let (hash, other, signature) = ([1; 32], [2; 32], [3; SIGNATURE_BYTES]);
    let public_key = [4; PUBLIC_KEY_BYTES];
    let stake = [chunk(1, b"yen"), integer(2, 7)].concat();
    let witness = [chunk(1, &other), chunk(2, &signature)].concat();
    let actions = [
        (16, "data", vec![]),
        (
            17,
            "transfer",
            vec![chunk(1, b"yen"), chunk(2, &hash), integer(3, 1)],
        ),
        (
            18,
            "presence",
            vec![integer(1, 3), chunk(6, &hash), chunk(7, &witness)],
        ),
        (19, "candidacy", vec![stake.clone()]),
        (20, "withdrawal", vec![stake]),
        (21, "witness", vec![chunk(1, &public_key), integer(2, 1)]),
        (
            22,
            "equivocation",
            vec![
                chunk(1, &public_key),
                chunk(3, &hash),
                chunk(4, &signature),
                chunk(5, &other),
                chunk(6, &signature),
            ],
        ),
        (
            23,
            "recovery",
            vec![
                integer(1, 5),
                chunk(2, &hash),
                chunk(3, &[chunk(1, &other), integer(2, 9)].concat()),
            ],
        ),
        (24, "peer", vec![chunk(1, b"{}")]),
        (
            25,
            "remittance",
            vec![
                chunk(1, b"yen"),
                chunk(2, &hash),
                chunk(3, &other),
                integer(4, 5),
            ],
        ),
        (
            26,
            "delivery",
            vec![
                chunk(1, &hash),
                chunk(2, &other),
                chunk(3, b"yen"),
                chunk(4, &hash),
                integer(5, 5),
                chunk(6, b"proof"),
                chunk(7, b"NO_1"),
                chunk(8, b"why"),
            ],
        ),
        (
            27,
            "settlement",
            vec![
                chunk(1, &hash),
                chunk(2, &other),
                chunk(3, &hash),
                chunk(4, b"yen"),
                integer(5, 5),
                integer(6, 1),
                chunk(7, b"proof"),
            ],
        ),
        (
            28,
            "anchor",
            vec![
                chunk(1, &hash),
                chunk(2, &[[0; 34].as_slice(), &[1, 2, 3, 4, 5, 6, 7, 8]].concat()),
                chunk(3, b"proof"),
            ],
        ),
        (
            29,
            "reward",
            vec![
                integer(1, 4),
                chunk(2, b"yen"),
                chunk(3, &hash),
                integer(4, 5),
            ],
        ),
    ];
    for (number, name, fields) in actions {
        let head = [
            chunk(1, &[7; 32]),
            chunk(2, &[9; 32]),
            chunk(3, &[0; 8]),
            integer(4, 1),
        ];
        let bytes = [head.concat(), chunk(number, &fields.concat())].concat();
        let body = Body::parse(&bytes, &Limits::DEFAULT).expect("is well-formed");
        assert_eq!(body.action.name(), name);
        match body.action {
            Action::Presence(claim) => {
                assert_eq!((claim.latitude_e7, claim.anchor), (-2, &hash));
                let [witness] = claim.witnesses[..] else {
                    panic!("has one witness");
                };
                assert_eq!((witness.key_id, witness.signature), (&other, &signature));
            }
            Action::Candidacy(stake) | Action::Withdrawal(stake) => {
                assert_eq!((stake.asset, stake.amount), ("yen", 7));
            }
            Action::Witness { revoked, .. } => assert!(revoked),
            Action::Equivocation(votes) => {
                assert_eq!((votes.first_hash, votes.second_hash), (&hash, &other));
            }
            Action::Recovery(recovery) => {
                let seat = Seat {
                    key_id: &other,
                    stake: 9,
                };
                assert_eq!((recovery.from_round, recovery.seats), (5, vec![seat]));
            }
            Action::Peer { genesis_file } => assert_eq!(genesis_file, b"{}"),
            Action::Remittance(sent) => {
                assert_eq!((sent.asset, sent.amount), ("yen", 5));
                assert_eq!((sent.city, sent.to), (&hash, &other));
            }
            Action::Delivery(delivery) => {
                assert_eq!((delivery.city, delivery.tx_id), (&hash, &other));
                assert_eq!(
                    (delivery.to, delivery.amount, delivery.proof),
                    (&hash, 5, &b"proof"[..])
                );
                let refusal = DeliveryRefusal {
                    code: "NO_1",
                    reason: "why",
                };
                assert_eq!(delivery.refusal, Some(refusal));
            }
            Action::Settlement(settlement) => {
                assert_eq!((settlement.tx_id, settlement.payer), (&hash, &other));
                assert_eq!((settlement.city, settlement.returned), (&hash, true));
            }
            Action::Anchor(anchor) => assert_eq!(anchor.round(), 0x0102_0304_0506_0708),
            Action::Reward(reward) => {
                assert_eq!((reward.epoch, reward.asset), (4, "yen"));
                assert_eq!((reward.to, reward.amount), (&hash, 5));
            }
            Action::Data { .. } | Action::Transfer { .. } => {}
        }
    }
}
