//! Erasure coding: data is cut into `k` fragments, `m` more are computed, and any `k` of the `n`
//! fragments restore it.
//!
//! ```text
//! data            stripe 0              stripe 1            ...   each of k * C bytes
//!                 chunk 0 | chunk 1     chunk 0 | chunk 1         each of C bytes; here k = 2
//! row i           chunk i of stripe 0 | chunk i of stripe 1 | ... what fragment i has of the run
//! row k + j       parity over the rows 0 to k - 1, position by position
//! ```
//!
//! A run is any number of whole stripes, or the last stripe alone, where it is shorter: its `r`
//! bytes make `k` chunks of `ceil(r / k)` bytes, rounded up to an even number, and zeros fill what
//! is missing. A row's length tells which of both it is.
//!
//! The parity is Reed-Solomon over GF(2^16), as Leopard-RS has it; `docs/design/erasure-code.md`
//! defines it, and `tests/crypto/erasure_reference.py` computes it from that definition. Stored
//! fragments depend on it: another version of the crate must give the same bytes.
//!
//! The code finds no corruption: what goes in must have been checked against its hashes.

mod pieces;

use std::fmt;
use std::mem;

use rayon::prelude::*;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use crate::Hash;
use crate::merkle::hash_leaf;
use crate::pool::pool;
use pieces::{for_decoding, for_encoding, pieces};

/// `k + m` at most.
pub const FRAGMENTS_MAX: usize = 255;
/// Chunks are of a power of two from this ...
pub const CHUNK_BYTES_MIN: usize = 4 << 10;
/// ... to this.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A fragment's chunks of a run, one after the other, and which fragment that is.
pub type Row<'a> = (usize, &'a [u8]);

/// The rows of all fragments, and the leaf hashes of each one's chunks.
pub type Encoded = (Vec<Vec<u8>>, Vec<Vec<Hash>>);

/// How data is cut and coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    data: usize,
    parity: usize,
    chunk: usize,
}

/// What is wrong with arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    Fragments {
        data: usize,
        parity: usize,
    },
    Chunk(usize),
    /// Neither whole stripes nor less than one.
    Data {
        bytes: usize,
        stripe: usize,
    },
    /// Neither whole chunks nor one shorter one of an even size.
    Row {
        bytes: usize,
        chunk: usize,
    },
    RowCount {
        expected: usize,
        found: usize,
    },
    RowLengths {
        first: usize,
        other: usize,
    },
    Index {
        index: usize,
        fragments: usize,
    },
    Repeated(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fragments { data, parity } => write!(
                f,
                "k must be at least 1 and k + m at most {FRAGMENTS_MAX}; k is {data}, m is {parity}"
            ),
            Self::Chunk(bytes) => write!(
                f,
                "chunk must be a power of two from {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}, \
                 not {bytes}"
            ),
            Self::Data { bytes, stripe } => write!(
                f,
                "data must be whole stripes of {stripe} bytes, or less than one, not {bytes} bytes"
            ),
            Self::Row { bytes, chunk } => write!(
                f,
                "a fragment must have whole chunks of {chunk} bytes, or a shorter one of an even \
                 size, not {bytes} bytes"
            ),
            Self::RowCount { expected, found } => {
                write!(f, "chunks of {expected} fragments are wanted, not {found}")
            }
            Self::RowLengths { first, other } => write!(
                f,
                "all fragments must have the same number of bytes, not {first} and {other}"
            ),
            Self::Index { index, fragments } => {
                write!(f, "index {index} is not in [0, {fragments})")
            }
            Self::Repeated(index) => write!(f, "fragment {index} is there twice"),
        }
    }
}

impl std::error::Error for Error {}

/// The leaf hash of each chunk of a row; the last may be shorter.
///
/// # Errors
/// Where chunks cannot have this size.
pub fn leaf_hashes(row: &[u8], chunk: usize) -> Result<Vec<Hash>, Error> {
    check_chunk(chunk)?;
    Ok(pool().install(|| hashes(row, chunk)))
}

impl Code {
    /// # Errors
    /// Where no such code exists.
    pub fn new(data: usize, parity: usize, chunk: usize) -> Result<Self, Error> {
        if data == 0 || data.saturating_add(parity) > FRAGMENTS_MAX {
            return Err(Error::Fragments { data, parity });
        }
        check_chunk(chunk)?;
        Ok(Self {
            data,
            parity,
            chunk,
        })
    }

    fn fragments(&self) -> usize {
        self.data + self.parity
    }

    /// Cuts a run of data and codes it.
    ///
    /// # Errors
    /// Where the data is no run.
    pub fn encode(&self, data: &[u8]) -> Result<Encoded, Error> {
        let chunk = self.chunk_of_data(data.len())?;
        Ok(pool().install(|| {
            let cut = |index| self.cut(data, chunk, index);
            let mut rows: Vec<Vec<u8>> = (0..self.data).into_par_iter().map(cut).collect();
            let parity = self.parity(&slices(&rows));
            rows.extend(parity);
            let hashes = rows.par_iter().map(|row| hashes(row, self.chunk)).collect();
            (rows, hashes)
        }))
    }

    /// The data of a run from the rows of `k` fragments, with the zeros that fill the last stripe.
    ///
    /// # Errors
    /// Where these are not `k` rows of one run.
    pub fn decode(&self, rows: &[Row<'_>]) -> Result<Vec<u8>, Error> {
        let chunk = self.chunk_of_rows(rows)?;
        Ok(pool().install(|| {
            let restored = self.restore(rows);
            self.join(&self.data_rows(rows, &restored), chunk)
        }))
    }

    /// The row of one fragment from those of `k`.
    ///
    /// # Errors
    /// Where these are not `k` rows of one run, or there is no such fragment.
    pub fn rebuild(&self, rows: &[Row<'_>], index: usize) -> Result<Vec<u8>, Error> {
        self.chunk_of_rows(rows)?;
        self.check_index(index)?;
        Ok(pool().install(|| {
            let restored = self.restore(rows);
            let data = self.data_rows(rows, &restored);
            match index.checked_sub(self.data) {
                None => data[index].to_vec(),
                Some(parity) => self.parity(&data).swap_remove(parity),
            }
        }))
    }

    /// The size of the chunks that a run of so much data is cut into.
    fn chunk_of_data(&self, bytes: usize) -> Result<usize, Error> {
        let stripe = self.data * self.chunk;
        if bytes.is_multiple_of(stripe) {
            return Ok(self.chunk);
        }
        if bytes < stripe {
            // Elements of the code are of two bytes.
            return Ok(bytes.div_ceil(self.data).next_multiple_of(2));
        }
        Err(Error::Data { bytes, stripe })
    }

    /// The size of the chunks in these rows.
    fn chunk_of_rows(&self, rows: &[Row<'_>]) -> Result<usize, Error> {
        if rows.len() != self.data {
            let (expected, found) = (self.data, rows.len());
            return Err(Error::RowCount { expected, found });
        }
        let mut seen = [false; FRAGMENTS_MAX];
        let first = rows[0].1.len();
        for &(index, row) in rows {
            self.check_index(index)?;
            if mem::replace(&mut seen[index], true) {
                return Err(Error::Repeated(index));
            }
            if row.len() != first {
                let other = row.len();
                return Err(Error::RowLengths { first, other });
            }
        }
        let (bytes, chunk) = (first, self.chunk);
        if bytes.is_multiple_of(chunk) {
            return Ok(chunk);
        }
        if bytes < chunk && bytes.is_multiple_of(2) {
            return Ok(bytes);
        }
        Err(Error::Row { bytes, chunk })
    }

    fn check_index(&self, index: usize) -> Result<(), Error> {
        let fragments = self.fragments();
        if index < fragments {
            return Ok(());
        }
        Err(Error::Index { index, fragments })
    }

    /// The row of a fragment that holds data.
    fn cut(&self, data: &[u8], chunk: usize, index: usize) -> Vec<u8> {
        let stripes = data.chunks(self.data * chunk);
        let bytes = stripes.len() * chunk;
        let mut row = Vec::with_capacity(bytes);
        for stripe in stripes {
            let begin = (index * chunk).min(stripe.len());
            let end = (begin + chunk).min(stripe.len());
            row.extend_from_slice(&stripe[begin..end]);
        }
        // Only a last stripe is shorter, and it comes alone.
        row.resize(bytes, 0);
        row
    }

    /// The data of which these are the rows, in order.
    fn join(&self, rows: &[&[u8]], chunk: usize) -> Vec<u8> {
        let mut data = vec![0; self.data * rows[0].len()];
        let stripes = data.par_chunks_mut(self.data * chunk);
        stripes.enumerate().for_each(|(stripe, data)| {
            for (part, row) in data.chunks_mut(chunk).zip(rows) {
                part.copy_from_slice(&row[stripe * chunk..][..chunk]);
            }
        });
        data
    }

    /// The rows of all fragments of parity, from those of data, in order.
    fn parity(&self, data: &[&[u8]]) -> Vec<Vec<u8>> {
        if self.parity == 0 {
            // There is no encoder for none.
            return Vec::new();
        }
        let bytes = data[0].len();
        let mut parity = vec![vec![0; bytes]; self.parity];
        let piece = for_encoding(self.fragments());
        let encoder = |bytes| {
            ReedSolomonEncoder::new(self.data, self.parity, bytes)
                .expect("any code of up to 255 fragments is supported")
        };
        pieces(&mut parity, piece).into_par_iter().for_each_init(
            || encoder(piece),
            |encoder, (begin, parts)| {
                let range = begin..begin + parts[0].len();
                // Only the last piece of a row may be shorter.
                encoder
                    .reset(self.data, self.parity, range.len())
                    .expect("rows are of an even size");
                for row in data {
                    encoder
                        .add_original_shard(&row[range.clone()])
                        .expect("these are k rows of one size");
                }
                let coded = encoder.encode().expect("all k rows are there");
                for (part, coded) in parts.into_iter().zip(coded.recovery_iter()) {
                    part.copy_from_slice(coded);
                }
            },
        );
        parity
    }

    /// The rows of data that are not among these, with their indexes, ascending.
    fn restore(&self, rows: &[Row<'_>]) -> Vec<(usize, Vec<u8>)> {
        let is_there = |index| rows.iter().any(|row| row.0 == index);
        let lost: Vec<usize> = (0..self.data).filter(|&index| !is_there(index)).collect();
        let bytes = rows[0].1.len();
        let mut restored = vec![vec![0; bytes]; lost.len()];
        let piece = for_decoding(bytes, self.data);
        let decode = |(begin, parts): (usize, Vec<&mut [u8]>)| {
            let range = begin..begin + parts[0].len();
            let mut decoder = ReedSolomonDecoder::new(self.data, self.parity, range.len())
                .expect("any code of up to 255 fragments is supported, over an even size");
            for &(index, row) in rows {
                let part = &row[range.clone()];
                let added = match index.checked_sub(self.data) {
                    None => decoder.add_original_shard(index, part),
                    Some(parity) => decoder.add_recovery_shard(parity, part),
                };
                added.expect("these are k different rows of one size");
            }
            let decoded = decoder.decode().expect("any k rows restore all others");
            for (part, &index) in parts.into_iter().zip(&lost) {
                let row = decoded.restored_original(index);
                part.copy_from_slice(row.expect("it was not among the rows"));
            }
        };
        pieces(&mut restored, piece)
            .into_par_iter()
            .for_each(decode);
        lost.into_iter().zip(restored).collect()
    }

    /// All rows of data, in order: those that were there and those that were restored.
    fn data_rows<'a>(&self, rows: &[Row<'a>], restored: &'a [(usize, Vec<u8>)]) -> Vec<&'a [u8]> {
        let mut data: Vec<&[u8]> = vec![&[]; self.data];
        for &(index, row) in rows.iter().filter(|row| row.0 < self.data) {
            data[index] = row;
        }
        for (index, row) in restored {
            data[*index] = row;
        }
        data
    }
}

fn hashes(row: &[u8], chunk: usize) -> Vec<Hash> {
    row.par_chunks(chunk).map(hash_leaf).collect()
}

fn check_chunk(chunk: usize) -> Result<(), Error> {
    if chunk.is_power_of_two() && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk) {
        return Ok(());
    }
    Err(Error::Chunk(chunk))
}

fn slices(rows: &[Vec<u8>]) -> Vec<&[u8]> {
    rows.iter().map(Vec::as_slice).collect()
}

#[cfg(test)]
mod tests;
