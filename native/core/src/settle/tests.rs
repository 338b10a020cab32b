use std::collections::HashMap;

use super::*;
use crate::transactions::{Action, Anchor, Delivery, DeliveryRefusal, Remittance, Reward};

const HERE: Hash = [1; 32];
const THERE: Hash = [2; 32];
const ANNA: Hash = [3; 32];
const BEN: Hash = [4; 32];

type Objects = HashMap<String, (u64, Vec<u8>)>;

fn by(author: &'static Hash, action: Action<'static>) -> Body<'static> {
    Body {
        genesis: &HERE,
        author,
        nonce: &[0; 8],
        created_at_ms: 1,
        valid_until_ms: None,
        depends_on: vec![],
        reads: vec![],
        writes: vec![],
        action,
    }
}

fn remit(amount: u64) -> Action<'static> {
    Action::Remittance(Remittance {
        asset: "yen",
        city: &THERE,
        to: &BEN,
        amount,
    })
}

fn settlement(tx_id: &'static Hash, amount: u64, returned: bool) -> Action<'static> {
    Action::Settlement(crate::transactions::Settlement {
        tx_id,
        payer: &ANNA,
        city: &THERE,
        asset: "yen",
        amount,
        returned,
        proof: b"proof",
    })
}

fn delivery(amount: u64, refusal: Option<DeliveryRefusal<'static>>) -> Action<'static> {
    Action::Delivery(Delivery {
        city: &THERE,
        tx_id: &[9; 32],
        asset: "yen",
        to: &BEN,
        amount,
        proof: b"proof",
        refusal,
    })
}

/// Settles a round of transactions with the ids [0; 32], [1; 32], … over the objects.
fn play(objects: &mut Objects, bodies: Vec<Body<'static>>) -> Vec<Option<RejectionCode>> {
    let ids: Vec<Hash> = (0..bodies.len()).map(|n| [n as u8; 32]).collect();
    let needed = needs(&bodies).1;
    let before = objects.clone();
    // What it does not ask for it is not told.
    let states = before
        .iter()
        .filter(|(name, _)| needed.contains(name.as_str()))
        .map(|(name, (version, value))| (name.as_str(), (*version, value.as_slice())))
        .collect();
    let candidates: Vec<_> = ids
        .iter()
        .zip(bodies)
        .map(|(tx_id, body)| Candidate {
            tx_id,
            body,
            held_since: 0,
            is_refused: false,
        })
        .collect();
    let round = Round {
        round: 1,
        time_ms: 1,
        hold_rounds: 1,
        dependencies: &HashMap::new(),
        objects: &states,
    };
    let settled = settle(&candidates, &round).expect("the state can be");
    for write in settled.writes {
        let at = objects.entry(write.object.into_owned()).or_default();
        assert!(at.0 < write.version);
        *at = (write.version, write.value.into_owned());
    }
    let code = |outcome| match outcome {
        Outcome::Approved => None,
        Outcome::Rejected(rejection) => Some(rejection.code),
        other => panic!("{other:?}"),
    };
    settled.outcomes.into_iter().map(code).collect()
}

fn balance(objects: &Objects, owner: &Hash) -> u64 {
    let state = objects.get(&balance_object("yen", owner));
    state.map_or(0, |(_, value)| {
        u64::from_be_bytes(value[..].try_into().expect("8 bytes"))
    })
}

fn funded(amount: u64) -> Objects {
    let value = amount.to_be_bytes().to_vec();
    HashMap::from([(balance_object("yen", &ANNA), (1, value))])
}

#[test]
fn an_amount_waits_in_escrow_until_it_is_settled_once() {
    for returned in [false, true] {
        let mut objects = funded(8);
        assert_eq!(play(&mut objects, vec![by(&ANNA, remit(5))]), [None]);
        let escrow = escrow_account(&THERE);
        assert_eq!(
            (balance(&objects, &ANNA), balance(&objects, &escrow)),
            (3, 5)
        );
        let told = || by(&BEN, settlement(&[0; 32], 5, returned));
        let settled = Some(RejectionCode::Settled);
        assert_eq!(play(&mut objects, vec![told(), told()]), [None, settled]);
        assert_eq!(play(&mut objects, vec![told()]), [settled]);
        assert_eq!(balance(&objects, &escrow), 0);
        assert_eq!(balance(&objects, &ANNA), if returned { 8 } else { 3 });
    }
}

#[test]
fn a_settlement_of_what_was_not_sent_moves_nothing() {
    let mut objects = funded(8);
    play(&mut objects, vec![by(&ANNA, remit(5))]);
    let before = objects.clone();
    let wrong = vec![
        by(&BEN, settlement(&[0; 32], 4, true)),
        by(&BEN, settlement(&[7; 32], 5, true)),
    ];
    let mismatch = Some(RejectionCode::Mismatch);
    assert_eq!(play(&mut objects, wrong), [mismatch, mismatch]);
    assert_eq!(objects, before);
}

#[test]
fn a_delivery_has_one_outcome_and_what_overflows_none() {
    let refusal = Some(DeliveryRefusal {
        code: "NO",
        reason: "",
    });
    let mut objects = Objects::new();
    let twice = vec![
        by(&ANNA, delivery(5, None)),
        by(&ANNA, delivery(5, refusal)),
    ];
    let delivered = Some(RejectionCode::Delivered);
    assert_eq!(play(&mut objects, twice), [None, delivered]);
    assert_eq!(balance(&objects, &BEN), 5);

    let full = (1, u64::MAX.to_be_bytes().to_vec());
    let mut objects = HashMap::from([(balance_object("yen", &BEN), full)]);
    let attempts = vec![
        by(&ANNA, delivery(1, None)),
        by(&ANNA, delivery(1, refusal)),
    ];
    let overflow = Some(RejectionCode::Overflow);
    assert_eq!(play(&mut objects, attempts), [overflow, None]);
    assert_eq!(
        play(&mut objects, vec![by(&ANNA, delivery(1, None))]),
        [delivered]
    );
    assert_eq!(balance(&objects, &BEN), u64::MAX);
}

#[test]
fn a_checkpoint_is_kept_if_it_is_later() {
    let anchor = |round: u8| {
        let mut checkpoint = vec![0; 42];
        checkpoint[41] = round;
        by(
            &ANNA,
            Action::Anchor(Anchor {
                city: &THERE,
                checkpoint: checkpoint.leak(),
                proof: b"proof",
            }),
        )
    };
    let mut objects = Objects::new();
    let anchored = Some(RejectionCode::Anchored);
    let rounds = vec![anchor(0), anchor(0), anchor(2), anchor(1)];
    assert_eq!(play(&mut objects, rounds), [None, anchored, None, anchored]);
    let [(version, value)] = objects.values().collect::<Vec<_>>()[..] else {
        panic!("there is one");
    };
    assert_eq!((*version, &value[..8]), (2, &[0, 0, 0, 0, 0, 0, 0, 2][..]));
}

#[test]
fn a_key_is_paid_once_for_an_epoch() {
    let reward = |epoch: u64, amount: u64| {
        let to = &BEN;
        let asset = "yen";
        by(
            &ANNA,
            Action::Reward(Reward {
                epoch,
                asset,
                to,
                amount,
            }),
        )
    };
    let mut objects = funded(8);
    let (rewarded, overdraft) = (RejectionCode::Rewarded, RejectionCode::Overdraft);
    // One that is not paid leaves the epoch open.
    let first = vec![reward(0, 9), reward(0, 5), reward(0, 1)];
    let outcomes = [Some(overdraft), None, Some(rewarded)];
    assert_eq!(play(&mut objects, first), outcomes);
    // Of another epoch; whoever was paid is told so before what the payer has.
    let later = vec![reward(0, 9), reward(16, 3)];
    assert_eq!(play(&mut objects, later), [Some(rewarded), None]);
    assert_eq!((balance(&objects, &ANNA), balance(&objects, &BEN)), (0, 8));
    let name = format!("$reward/0000000000000010/{}", hex(&BEN));
    let value = [&[1; 32][..], &3_u64.to_be_bytes(), b"yen"].concat();
    assert_eq!(objects[&name], (1, value));
}
