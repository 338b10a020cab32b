//! What is wrong with an argument, by its name.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Lists that belong together must be equally long.
pub fn same_length(name: &str, length: usize, other: &str, expected: usize) -> PyResult<()> {
    if length == expected {
        return Ok(());
    }
    let message = format!("{name} has {length} items, {other} has {expected}");
    Err(PyValueError::new_err(message))
}
