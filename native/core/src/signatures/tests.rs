use super::*;

const CONTEXT: &[u8] = b"citychain/test/v1";

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; SEED_BYTES])
}

#[test]
fn a_signature_verifies_from_bytes_and_prepared() {
    let key = key();
    let prepared = PreparedKey::new(key.public_key()).unwrap();
    for deterministic in [false, true] {
        let signature = key.sign(b"message", CONTEXT, deterministic).unwrap();
        assert!(verify(key.public_key(), b"message", CONTEXT, &signature));
        assert!(prepared.verify(b"message", CONTEXT, &signature));
        assert!(!prepared.verify(b"massage", CONTEXT, &signature));
        assert!(!prepared.verify(b"message", b"", &signature));
    }
}

#[test]
fn only_hedged_signatures_differ() {
    let sign = |deterministic| key().sign(b"message", CONTEXT, deterministic).unwrap();
    assert_eq!(sign(true), sign(true));
    assert_ne!(sign(false), sign(false));
}

#[test]
fn impossible_lengths_are_errors_or_do_not_verify() {
    let key = key();
    let signature = key.sign(b"message", &[1; 255], false).unwrap();
    let prepared = PreparedKey::new(key.public_key()).unwrap();
    assert!(prepared.verify(b"message", &[1; 255], &signature));
    assert_eq!(
        key.sign(b"message", &[1; 256], false),
        Err(Error::ContextLength(256))
    );
    for context in [&[1; 256][..], &[1; 257], &[1; 511], &[1; 70_000]] {
        assert!(!prepared.verify(b"message", context, &signature));
        assert!(!verify(key.public_key(), b"message", context, &signature));
    }
    for len in [0, 1, PUBLIC_KEY_BYTES - 1, PUBLIC_KEY_BYTES + 1] {
        assert_eq!(
            PreparedKey::new(&vec![0; len]).err(),
            Some(Error::PublicKeyLength(len))
        );
        assert!(!verify(&vec![0; len], b"message", CONTEXT, &signature));
    }
    for len in [0, 1, SIGNATURE_BYTES - 1, SIGNATURE_BYTES + 1] {
        let mut wrong = signature.to_vec();
        wrong.resize(len, 0);
        assert!(!prepared.verify(b"message", &[1; 255], &wrong));
        assert!(!verify(key.public_key(), b"message", &[1; 255], &wrong));
    }
}

#[test]
fn a_signing_key_prints_no_secret() {
    assert_eq!(format!("{:?}", key()), "SigningKey(..)");
}

#[test]
fn a_batch_judges_each_item_by_itself_and_keeps_their_order() {
    let key = key();
    let signature = key.sign(b"message", CONTEXT, false).unwrap();
    let encoded = PublicKey::new(key.public_key()).unwrap();
    let prepared = PreparedKey::new(key.public_key()).unwrap();
    let items: Vec<Item> = (0..100)
        .map(|at| Item {
            key: if at % 2 == 0 { &encoded } else { &prepared },
            message: b"message",
            context: CONTEXT,
            signature: if at % 3 == 0 {
                &signature[1..]
            } else {
                &signature
            },
        })
        .collect();
    let expected: Vec<bool> = (0..100).map(|at| at % 3 != 0).collect();
    assert_eq!(verify_batch(&items), expected);
    assert!(verify_batch(&[]).is_empty());
}
