//! The algorithms of citychain, free of Python: one module a subject.

pub mod erasure;
pub mod link;
pub mod merkle;
pub mod places;
pub mod poh;
pub mod pool;
pub mod settle;
pub mod signatures;
pub mod transactions;

/// A SHA-256 digest.
pub type Hash = [u8; 32];
