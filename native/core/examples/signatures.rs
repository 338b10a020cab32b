//! Measures ML-DSA-87: `cargo run --release -p citychain-core --example signatures`.
//!
//! Each line is the median of several rounds, and in a round the lines take turns, so that on a
//! noisy machine their ratios hold even where the figures do not.

use std::hint::black_box;
use std::time::{Duration, Instant};

use citychain_core::signatures::{
    Item, PreparedKey, SIGNATURE_BYTES, Signed, SigningKey, verify, verify_batch, verify_signed,
};

const CONTEXT: &[u8] = b"citychain/tx/v1";
const ROUND: Duration = Duration::from_millis(150);
const ROUNDS: usize = 7;
const KEYS: usize = 512;
const BATCH: usize = 1000;

/// What is measured: its name, how many each call does, and the call, which is given its number.
type Line<'a> = (&'a str, usize, Box<dyn FnMut(usize) + 'a>);

fn main() {
    let (short, long) = (vec![42; 1024], vec![42; 8 * 1024]);
    let keys: Vec<SigningKey> = (0..KEYS).map(signing_key).collect();
    let prepared: Vec<PreparedKey> = keys.iter().map(prepare).collect();
    let signatures: Vec<_> = keys.iter().map(|key| sign(key, &short)).collect();
    let long_signature = sign(&keys[0], &long);
    let item = |at: usize| Item {
        key: &prepared[at],
        message: &short,
        context: CONTEXT,
        signature: &signatures[at],
    };
    let signed = |at: usize| Signed {
        public_key: keys[at].public_key(),
        message: &short,
        context: CONTEXT,
        signature: &signatures[at],
    };
    let one_key: Vec<Item> = (0..BATCH).map(|_| item(0)).collect();
    let many_keys: Vec<Item> = (0..BATCH).map(|at| item(at % KEYS)).collect();
    let encoded: Vec<Signed> = (0..BATCH).map(|at| signed(at % KEYS)).collect();

    let check = |key: usize, message: &[u8], signature: &[u8]| {
        assert!(prepared[key].verify(message, CONTEXT, signature));
    };
    let lines: Vec<Line> = vec![
        (
            "sign 1 KB",
            1,
            Box::new(|_| _ = black_box(sign(&keys[0], &short))),
        ),
        (
            "verify 1 KB from bytes",
            1,
            Box::new(|_| {
                assert!(verify(
                    keys[0].public_key(),
                    &short,
                    CONTEXT,
                    &signatures[0]
                ));
            }),
        ),
        (
            "prepare a key",
            1,
            Box::new(|_| _ = black_box(prepare(&keys[0]))),
        ),
        (
            "verify 1 KB prepared",
            1,
            Box::new(|_| check(0, &short, &signatures[0])),
        ),
        (
            "verify 8 KB prepared",
            1,
            Box::new(|_| check(0, &long, &long_signature)),
        ),
        (
            "verify 1 KB prepared, 512 keys in turn",
            1,
            Box::new(|at| check(at % KEYS, &short, &signatures[at % KEYS])),
        ),
        (
            "batch of 1,000 prepared, one key, all cores",
            BATCH,
            Box::new(|_| assert!(verify_batch(&one_key).into_iter().all(|held| held))),
        ),
        (
            "batch of 1,000 prepared, 512 keys, all cores",
            BATCH,
            Box::new(|_| assert!(verify_batch(&many_keys).into_iter().all(|held| held))),
        ),
        (
            "batch of 1,000 from bytes, 512 keys, all cores",
            BATCH,
            Box::new(|_| assert!(verify_signed(&encoded).into_iter().all(|held| held))),
        ),
    ];
    measure(lines);
}

fn measure(mut lines: Vec<Line>) {
    let mut rates = vec![Vec::new(); lines.len()];
    for _ in 0..ROUNDS {
        for ((_, each, call), rates) in lines.iter_mut().zip(&mut rates) {
            rates.push(rate(*each, call));
        }
    }
    for ((name, ..), rates) in lines.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        let median = rates[ROUNDS / 2];
        println!("{name:<48}{median:>9.0} /s {:>8.2} µs", 1e6 / median);
    }
}

fn rate(each: usize, call: &mut dyn FnMut(usize)) -> f64 {
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < ROUND {
        call(calls);
        calls += 1;
    }
    (calls * each) as f64 / start.elapsed().as_secs_f64()
}

fn signing_key(at: usize) -> SigningKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&at.to_le_bytes());
    SigningKey::from_seed(&seed)
}

fn prepare(key: &SigningKey) -> PreparedKey {
    PreparedKey::new(key.public_key()).expect("a public key has its length")
}

fn sign(key: &SigningKey, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
    key.sign(message, CONTEXT, false)
        .expect("the context is short")
}
