//! Prepared keys give the verdict of AWS-LC on whatever is done to a valid signature.

use citychain_core::signatures::{
    PUBLIC_KEY_BYTES, PreparedKey, SIGNATURE_BYTES, SigningKey, verify,
};

const SEED: u64 = 0x6369_7479_6368_6169;
const MUTATIONS: usize = 20_000;

/// Where the parts of a signature begin: c̃, z, the indices of the hints, the ends of their rows.
const Z: usize = 64;
const HINTS: usize = SIGNATURE_BYTES - 83;
const HINT_ENDS: usize = SIGNATURE_BYTES - 8;

#[derive(Clone, Debug, PartialEq)]
struct Signed {
    public_key: Vec<u8>,
    message: Vec<u8>,
    context: Vec<u8>,
    signature: Vec<u8>,
}

#[test]
fn prepared_keys_agree_with_aws_lc_on_mutated_signatures() {
    let mut random = Random(SEED);
    let valid: Vec<Signed> = (0..16).map(|_| signed(&mut random)).collect();
    let mut held = 0;
    for round in 0..MUTATIONS {
        let original = random.pick(&valid);
        let mut item = original.clone();
        mutate(&mut item, &valid, &mut random);
        let Signed {
            public_key,
            message,
            context,
            signature,
        } = &item;
        let expected = verify(public_key, message, context, signature);
        let prepared =
            PreparedKey::new(public_key).is_ok_and(|key| key.verify(message, context, signature));
        assert_eq!(
            prepared, expected,
            "round {round} of seed {SEED:#x}: {item:?}"
        );
        assert_eq!(
            expected,
            item == *original,
            "round {round} of seed {SEED:#x}: {item:?}"
        );
        held += usize::from(expected);
    }
    assert!(
        (MUTATIONS / 100..MUTATIONS / 2).contains(&held),
        "{held} of {MUTATIONS} held"
    );
}

fn signed(random: &mut Random) -> Signed {
    let key = SigningKey::from_seed(&random.bytes(32).try_into().unwrap());
    let message_len = random.below(3000);
    let message = random.bytes(message_len);
    let context_len = random.below(256);
    let context = random.bytes(context_len);
    let signature = key.sign(&message, &context, true).unwrap().to_vec();
    Signed {
        public_key: key.public_key().to_vec(),
        message,
        context,
        signature,
    }
}

/// Changes one thing, or nothing; what it does to a part depends on what the part means.
fn mutate(item: &mut Signed, others: &[Signed], random: &mut Random) {
    match random.below(16) {
        0 => {}
        1 => flip_bits(&mut item.public_key, random),
        2 => item.public_key.clone_from(&random.pick(others).public_key),
        3 => resize(&mut item.public_key, PUBLIC_KEY_BYTES, random),
        4 => flip_bits(&mut item.message, random),
        5 => {
            let byte = random.next() as u8;
            item.message.push(byte);
        }
        6 => flip_bits(&mut item.context, random),
        7 => {
            let len = random.below(300);
            item.context.resize(len, 0);
        }
        8 => flip_bits(&mut item.signature, random),
        9 => flip_bits(&mut item.signature[..Z], random),
        10 => flip_bits(&mut item.signature[Z..HINTS], random),
        11 => flip_bits(&mut item.signature[HINTS..HINT_ENDS], random),
        12 => flip_bits(&mut item.signature[HINT_ENDS..], random),
        13 => {
            let (a, b) = (random.below(75), random.below(75));
            item.signature.swap(HINTS + a, HINTS + b);
        }
        14 => set_coefficient(&mut item.signature[Z..HINTS], random),
        _ => resize(&mut item.signature, SIGNATURE_BYTES, random),
    }
}

fn flip_bits(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..=random.below(3) {
        if !bytes.is_empty() {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
    }
}

fn resize(bytes: &mut Vec<u8>, len: usize, random: &mut Random) {
    bytes.resize(*random.pick(&[0, 1, len - 1, len, len + 1, 2 * len]), 0);
}

/// Sets a coefficient of z, which takes 20 bits, to a value at or near the bound γ₁ − β.
fn set_coefficient(z: &mut [u8], random: &mut Random) {
    let (gamma, beta) = (1 << 19, 120);
    let distance = gamma - beta + *random.pick(&[-2, -1, 0, 1, beta]);
    let sign = *random.pick(&[-1, 1]);
    let packed = (gamma - sign * distance) as u32;
    let pair = random.below(z.len() / 5) * 5;
    if random.below(2) == 0 {
        z[pair] = packed as u8;
        z[pair + 1] = (packed >> 8) as u8;
        z[pair + 2] = z[pair + 2] & 0xf0 | (packed >> 16) as u8 & 0x0f;
    } else {
        z[pair + 2] = z[pair + 2] & 0x0f | (packed << 4) as u8;
        z[pair + 3] = (packed >> 4) as u8;
        z[pair + 4] = (packed >> 12) as u8;
    }
}

/// SplitMix64: enough for a test, and the same on every platform.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
