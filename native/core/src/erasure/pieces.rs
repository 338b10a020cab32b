//! Rows are coded in pieces: the code goes by blocks of 64 bytes, each by itself, so that pieces of
//! whole blocks give the same bytes as whole rows.

/// Between multiples of this a row may be cut.
const BLOCK: usize = 64;

/// The encoder's work should stay in the cache of its core.
const ENCODING_WORK: usize = 512 << 10;

/// Each call of the decoder begins with a transform of 65,536 elements, a quarter of a millisecond
/// whatever is lost, so it should decode much: data of this size takes as long.
const DECODING_PIECE: usize = 1 << 20;

/// Bytes of each row in a piece to encode.
pub(super) fn for_encoding(fragments: usize) -> usize {
    (ENCODING_WORK / fragments).next_multiple_of(BLOCK)
}

/// Bytes of each row in a piece to decode: no more pieces than threads of this pool.
pub(super) fn for_decoding(row: usize, data: usize) -> usize {
    let pieces = (data * row / DECODING_PIECE).clamp(1, rayon::current_num_threads());
    row.div_ceil(pieces).next_multiple_of(BLOCK).max(BLOCK)
}

/// Cuts rows of one length at the same places: where each piece begins, and its part of each row.
/// There are none of no rows.
pub(super) fn pieces(rows: &mut [Vec<u8>], bytes: usize) -> Vec<(usize, Vec<&mut [u8]>)> {
    let row = rows.first().map_or(0, Vec::len);
    let mut parts: Vec<_> = rows.iter_mut().map(|row| row.chunks_mut(bytes)).collect();
    (0..row)
        .step_by(bytes)
        .map(|begin| (begin, parts.iter_mut().filter_map(Iterator::next).collect()))
        .collect()
}
