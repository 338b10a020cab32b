//! The algorithms of citychain, free of Python: one module a subject.

pub mod link;
pub mod pool;
pub mod settle;
pub mod signatures;
pub mod transactions;
