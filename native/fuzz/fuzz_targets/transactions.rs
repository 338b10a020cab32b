//! Bytes as transactions: nothing panics, nothing is admitted without a signature, and what is
//! read can be written down again.

#![no_main]

use citychain_core::signatures::{KeyCache, SIGNATURE_BYTES};
use citychain_core::transactions::{
    Action, Body, Limits, ObjectVersion, Rules, StoredForm, check, decode,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const AUTHOR: &[u8; 32] = &[2; 32];

/// A whole transaction, and what becomes of the fields of its two messages.
#[derive(Arbitrary, Debug)]
struct Input {
    body: Vec<Edit>,
    envelope: Vec<Edit>,
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
    let body = edited(good_body().into(), &input.body);
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

fn good_body() -> [Vec<u8>; 8] {
    let object = ObjectVersion {
        object: "road",
        version: 1,
    };
    let transfer = [chunk(1, b"yen"), chunk(2, &[3; 32]), integer(3, 1)].concat();
    [
        chunk(1, &[1; 32]),
        chunk(2, AUTHOR),
        chunk(3, &[0; 8]),
        integer(4, 1),
        chunk(17, &transfer),
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
    fields.push(match body.action {
        Action::Data {
            content_type,
            content,
        } => {
            let data = [chunk(1, content_type.as_bytes()), chunk(2, content)];
            chunk(16, &data.concat())
        }
        Action::Transfer { asset, to, amount } => {
            let transfer = [chunk(1, asset.as_bytes()), chunk(2, to), integer(3, amount)];
            chunk(17, &transfer.concat())
        }
    });
    fields.concat()
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
