use super::*;

const CHUNK: usize = CHUNK_BYTES_MIN;

/// Bytes without a pattern that the cutting could follow.
fn data(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn code(data: usize, parity: usize) -> Code {
    Code::new(data, parity, CHUNK).unwrap()
}

/// The rows with the bits of `set`.
fn chosen(rows: &[Vec<u8>], set: u32) -> Vec<Row<'_>> {
    let rows = rows.iter().map(Vec::as_slice).enumerate();
    rows.filter(|row| set >> row.0 & 1 == 1).collect()
}

fn padded(mut data: Vec<u8>, bytes: usize) -> Vec<u8> {
    data.resize(bytes, 0);
    data
}

#[test]
fn any_k_rows_restore_the_data_and_every_row() {
    for (k, m) in [
        (1, 0),
        (1, 2),
        (2, 1),
        (2, 2),
        (3, 2),
        (2, 4),
        (4, 3),
        (5, 1),
    ] {
        let code = code(k, m);
        for bytes in [1, 2, 63, 129, 1000, k * CHUNK - 1, k * CHUNK, 2 * k * CHUNK] {
            let data = data(bytes);
            let (rows, _) = code.encode(&data).unwrap();
            assert_eq!(rows.len(), k + m);
            let expected = padded(data, k * rows[0].len());
            for set in (0..1 << (k + m)).filter(|set: &u32| set.count_ones() as usize == k) {
                let mut left = chosen(&rows, set);
                left.reverse();
                assert_eq!(code.decode(&left).unwrap(), expected);
                for (index, row) in rows.iter().enumerate() {
                    assert_eq!(&code.rebuild(&left, index).unwrap(), row);
                }
            }
        }
    }
}

#[test]
fn rows_have_the_chunks_of_each_stripe_in_turn() {
    let data = data(3 * 2 * CHUNK);
    let (rows, hashes) = code(2, 1).encode(&data).unwrap();
    let chunks: Vec<&[u8]> = data.chunks(CHUNK).collect();
    assert_eq!(rows[0], [chunks[0], chunks[2], chunks[4]].concat());
    assert_eq!(rows[1], [chunks[1], chunks[3], chunks[5]].concat());
    assert_eq!(hashes[1], [1, 3, 5].map(|index| hash_leaf(chunks[index])));
    assert_eq!(hashes[2], leaf_hashes(&rows[2], CHUNK).unwrap());
}

#[test]
fn a_last_stripe_has_shorter_chunks_of_an_even_size() {
    let code = code(3, 1);
    for (bytes, chunk) in [
        (1, 2),
        (6, 2),
        (7, 4),
        (12, 4),
        (13, 6),
        (3 * CHUNK - 1, CHUNK),
    ] {
        let data = data(bytes);
        let (rows, _) = code.encode(&data).unwrap();
        assert!(rows.iter().all(|row| row.len() == chunk), "{bytes} bytes");
        assert_eq!(rows[..3].concat(), padded(data, 3 * chunk));
    }
}

#[test]
fn no_data_has_no_chunks() {
    let code = code(2, 2);
    let (rows, hashes) = code.encode(&[]).unwrap();
    assert_eq!(rows, [const { Vec::<u8>::new() }; 4]);
    assert_eq!(hashes, [const { Vec::<Hash>::new() }; 4]);
    let left = chosen(&rows, 0b1100);
    assert_eq!(code.decode(&left), Ok(Vec::new()));
    assert_eq!(code.rebuild(&left, 0), Ok(Vec::new()));
    assert_eq!(code.rebuild(&left, 3), Ok(Vec::new()));
}

/// Rows that make several pieces, the last of them short, against the crate over whole rows.
#[test]
fn pieces_leave_no_trace() {
    let row = CHUNK_BYTES_MAX - 34;
    for (k, m) in [(2, 2), (6, 3), (3, 6), (17, 4)] {
        let code = Code::new(k, m, CHUNK_BYTES_MAX).unwrap();
        let data = data(k * row);
        let (rows, _) = code.encode(&data).unwrap();
        assert!(row > 2 * for_encoding(k + m));
        let whole = reed_solomon_simd::encode(k, m, data.chunks(row)).unwrap();
        assert_eq!(rows[k..], whole);

        let left: Vec<Row<'_>> = rows.iter().map(Vec::as_slice).enumerate().skip(m).collect();
        let decoded = pool().install(|| code.decode(&left[..k])).unwrap();
        assert_eq!(decoded, data);
    }
}

#[test]
fn the_largest_code_restores_from_any_part_of_it() {
    for (k, m) in [
        (1, 254),
        (127, 128),
        (128, 127),
        (200, 55),
        (254, 1),
        (255, 0),
    ] {
        let code = code(k, m);
        let data = data(k * 66 - 5);
        let (rows, _) = code.encode(&data).unwrap();
        let rows: Vec<Row<'_>> = rows.iter().map(Vec::as_slice).enumerate().collect();
        let expected = padded(data, k * rows[0].1.len());
        assert_eq!(code.decode(&rows[m..]).unwrap(), expected);
        // Every other one, and as many of the rest as it takes.
        let (even, odd): (Vec<_>, Vec<_>) = rows
            .iter()
            .copied()
            .partition(|row| row.0.is_multiple_of(2));
        let mixed = [even, odd].concat();
        assert_eq!(code.decode(&mixed[..k]).unwrap(), expected);
        assert_eq!(
            code.rebuild(&mixed[..k], k + m - 1).unwrap(),
            rows[k + m - 1].1
        );
    }
}

#[test]
fn what_is_no_code_is_refused() {
    for (data, parity) in [(0, 1), (1, 255), (255, 1), (usize::MAX, 1)] {
        let error = Code::new(data, parity, CHUNK).unwrap_err();
        assert_eq!(error, Error::Fragments { data, parity });
    }
    for chunk in [0, 1, CHUNK - 1, CHUNK / 2, CHUNK + 64, 2 * CHUNK_BYTES_MAX] {
        assert_eq!(Code::new(2, 2, chunk), Err(Error::Chunk(chunk)));
        assert_eq!(leaf_hashes(b"", chunk), Err(Error::Chunk(chunk)));
    }
}

#[test]
fn what_is_no_run_is_refused() {
    let code = code(2, 2);
    let (bytes, stripe) = (2 * CHUNK + 1, 2 * CHUNK);
    let error = code.encode(&data(bytes)).unwrap_err();
    assert_eq!(error, Error::Data { bytes, stripe });

    let (rows, _) = code.encode(&data(100)).unwrap();
    let row = &rows[0][..];
    let error = |rows: &[Row<'_>]| {
        let error = code.decode(rows).unwrap_err();
        assert_eq!(code.rebuild(rows, 0).unwrap_err(), error);
        error
    };
    let (expected, first, other) = (2, 50, 48);
    assert_eq!(error(&[]), Error::RowCount { expected, found: 0 });
    assert_eq!(
        error(&[(0, row), (1, row), (2, row)]),
        Error::RowCount { expected, found: 3 }
    );
    assert_eq!(
        error(&[(0, row), (1, &row[2..])]),
        Error::RowLengths { first, other }
    );
    assert_eq!(error(&[(3, row), (3, row)]), Error::Repeated(3));
    let (index, fragments) = (4, 4);
    assert_eq!(
        error(&[(0, row), (4, row)]),
        Error::Index { index, fragments }
    );
    assert_eq!(
        code.rebuild(&[(0, row), (1, row)], 4),
        Err(Error::Index { index, fragments })
    );
    for bytes in [49, CHUNK + 2] {
        let (row, chunk) = (&data(bytes)[..], CHUNK);
        assert_eq!(error(&[(0, row), (2, row)]), Error::Row { bytes, chunk });
    }
}
