//! The algorithms of citychain, free of Python: one module a subject.

pub mod pool;
pub mod signatures;
pub mod transactions;
