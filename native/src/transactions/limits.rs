//! The class `Limits`.

use citychain_core::transactions as core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What a city bounds in its transactions; past one of these they are TOO_LARGE.
///
/// Raises:
///     ValueError: a limit is past what the format allows.
#[pyclass(frozen, eq, module = "citychain._native.transactions")]
#[derive(PartialEq)]
pub struct Limits(pub core::Limits);

#[pymethods]
impl Limits {
    // Twins of `core::Limits::DEFAULT`, written out so that Python shows them.
    #[new]
    #[pyo3(signature = (
        *,
        body_bytes_max=65_536,
        reads_max=16,
        writes_max=16,
        object_id_bytes_max=128,
        content_type_bytes_max=64,
    ))]
    fn new(
        body_bytes_max: usize,
        reads_max: usize,
        writes_max: usize,
        object_id_bytes_max: usize,
        content_type_bytes_max: usize,
    ) -> PyResult<Self> {
        let limits = core::Limits {
            body_bytes_max,
            reads_max,
            writes_max,
            object_id_bytes_max,
            content_type_bytes_max,
        };
        match limits.past_widest() {
            None => Ok(Self(limits)),
            Some((name, widest)) => Err(PyValueError::new_err(format!(
                "{name} must be at most {widest}"
            ))),
        }
    }

    #[getter]
    fn body_bytes_max(&self) -> usize {
        self.0.body_bytes_max
    }

    #[getter]
    fn reads_max(&self) -> usize {
        self.0.reads_max
    }

    #[getter]
    fn writes_max(&self) -> usize {
        self.0.writes_max
    }

    #[getter]
    fn object_id_bytes_max(&self) -> usize {
        self.0.object_id_bytes_max
    }

    #[getter]
    fn content_type_bytes_max(&self) -> usize {
        self.0.content_type_bytes_max
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}
