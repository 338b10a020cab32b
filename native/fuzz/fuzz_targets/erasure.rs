//! Anything as rows of fragments: nothing panics, and any `k` rows give back what was cut.

#![no_main]

use citychain_core::erasure::{CHUNK_BYTES_MIN, Code, Row, leaf_hashes};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Taken as they are.
    shape: [u16; 2],
    chunk: u32,
    rows: Vec<(u8, Vec<u8>)>,
    index: u8,
    /// A code, and which rows are left.
    data: u8,
    parity: u8,
    left: Vec<u8>,
    bytes: Vec<u8>,
    /// So many whole stripes of the bytes, repeated; 0 takes them as a last stripe.
    stripes: u8,
}

fuzz_target!(|input: Input| {
    claims(&input);
    round_trip(&input);
});

fn claims(input: &Input) {
    let shape = input.shape.map(usize::from);
    let _ = leaf_hashes(&input.bytes, input.chunk as usize);
    for chunk in [input.chunk as usize, CHUNK_BYTES_MIN] {
        let Ok(code) = Code::new(shape[0], shape[1], chunk) else {
            continue;
        };
        let rows: Vec<Row<'_>> = input
            .rows
            .iter()
            .map(|(index, row)| (usize::from(*index), &row[..]))
            .collect();
        let index = usize::from(input.index);
        if let Ok(data) = code.decode(&rows) {
            // Any k rows are those of some data.
            let row = code.rebuild(&rows, index);
            let (encoded, _) = code.encode(&data).expect("it was decoded from whole rows");
            for (index, row) in &rows {
                assert_eq!(&encoded[*index], row);
            }
            if index < encoded.len() {
                assert_eq!(row.as_ref(), Ok(&encoded[index]));
            }
        }
        let _ = code.encode(&input.bytes);
    }
}

fn round_trip(input: &Input) {
    let (data, parity) = (
        usize::from(input.data % 6) + 1,
        usize::from(input.parity % 6),
    );
    let code = Code::new(data, parity, CHUNK_BYTES_MIN).expect("a small code exists");
    let stripe = data * CHUNK_BYTES_MIN;
    let bytes: Vec<u8> = match usize::from(input.stripes % 4) {
        0 => input.bytes.iter().copied().take(stripe).collect(),
        stripes => {
            let filled = input.bytes.iter().chain(&[0]).copied().cycle();
            filled.take(stripes * stripe).collect()
        }
    };
    let (rows, hashes) = code.encode(&bytes).expect("a run");
    for (row, hashes) in rows.iter().zip(&hashes) {
        assert_eq!(leaf_hashes(row, CHUNK_BYTES_MIN).as_ref(), Ok(hashes));
    }
    let mut left: Vec<Row<'_>> = rows.iter().map(Vec::as_slice).enumerate().collect();
    for at in &input.left {
        let at = usize::from(*at) % left.len();
        let row = left.remove(at);
        left.insert(0, row);
    }
    let left = &left[..data];
    let decoded = code.decode(left).expect("k rows");
    assert_eq!(decoded[..bytes.len()], bytes);
    assert!(decoded[bytes.len()..].iter().all(|byte| *byte == 0));
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(&code.rebuild(left, index).expect("k rows"), row);
    }
}
