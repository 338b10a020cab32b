//! The thread pool that all batch work shares.

use std::process;
use std::sync::{Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The pool of this process: one thread a core, made on first use and never at import.
///
/// Threads do not survive `fork`, and a batch handed to a pool without threads would wait for ever.
/// A pool therefore belongs to the process that made it: a forked child makes its own and leaves
/// the inherited one alone.
pub fn pool() -> &'static ThreadPool {
    static POOL: Mutex<Option<(u32, &'static ThreadPool)>> = Mutex::new(None);
    let mut current = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    match *current {
        Some((owner, pool)) if owner == process::id() => pool,
        _ => {
            let pool: &'static ThreadPool = Box::leak(Box::new(start()));
            *current = Some((process::id(), pool));
            pool
        }
    }
}

fn start() -> ThreadPool {
    ThreadPoolBuilder::new()
        .thread_name(|index| format!("citychain-{index}"))
        .build()
        .expect("the operating system starts threads")
}
