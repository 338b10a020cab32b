//! `citychain._native.transactions`; its types stand in `citychain/_native/transactions.pyi`.

mod actions;
mod limits;
mod transaction;

use citychain_core::transactions as core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyMappingProxy, PySequence};

use crate::signatures::{KeyCache, exactly};
use limits::Limits;
pub use transaction::Transaction;

/// The most envelopes that one call takes.
const ENVELOPES_MAX: usize = 4096;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("ENVELOPES_MAX", ENVELOPES_MAX)?;
    let codes = core::Code::ALL.map(|code| (code.name(), code.meaning()));
    module.add("REFUSAL_CODES", constant_mapping(module.py(), codes)?)?;
    module.add_class::<Limits>()?;
    module.add_class::<Transaction>()?;
    module.add_class::<Refusal>()?;
    module.add_function(wrap_pyfunction!(check_batch, module)?)?;
    module.add_function(wrap_pyfunction!(decode_batch, module)?)?;
    module.add_function(wrap_pyfunction!(tx_id, module)?)?;
    module.add_function(wrap_pyfunction!(key_id, module)?)
}

pub fn constant_mapping<'py, const N: usize>(
    py: Python<'py>,
    entries: [(&str, &str); N],
) -> PyResult<Bound<'py, PyMappingProxy>> {
    let dict = PyDict::new(py);
    for (key, value) in entries {
        dict.set_item(key, value)?;
    }
    Ok(PyMappingProxy::new(py, dict.as_mapping()))
}

/// Why one transaction was not admitted.
#[pyclass(frozen, module = "citychain._native.transactions")]
pub struct Refusal(core::Refusal);

#[pymethods]
impl Refusal {
    /// One of `REFUSAL_CODES`.
    #[getter]
    fn code(&self) -> &'static str {
        self.0.code.name()
    }

    /// Dotted path of the field at fault, such as `body.writes[2].object`; None for the whole.
    #[getter]
    fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// What is wrong, in plain words that follow the field's name, with the bound.
    #[getter]
    fn detail(&self) -> &str {
        &self.0.detail
    }

    /// With UNKNOWN_KEY: the id of the key that is wanted by value.
    #[getter]
    fn key_id<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.key_id.map(|id| PyBytes::new(py, &id))
    }

    /// The id of the transaction, which may have been admitted before; None if the body could not
    /// be read.
    #[getter]
    fn tx_id<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.tx_id.map(|id| PyBytes::new(py, &id))
    }

    fn __repr__(&self) -> String {
        format!("<Refusal {}>", self.0)
    }
}

/// Checks received envelopes for the city of this genesis, each by itself, on all cores.
///
/// The order is: format and limits, genesis, expiry at `now_ms`, key, signature. A key sent by
/// value whose signature held is put into `keys`.
///
/// Returns:
///     A `Transaction` or a `Refusal` for each envelope, in their order.
///
/// Raises:
///     ValueError: there are more than `ENVELOPES_MAX` envelopes, or the genesis is not 32 bytes.
#[pyfunction]
fn check_batch<'py>(
    py: Python<'py>,
    envelopes: &Bound<'py, PySequence>,
    genesis: &[u8],
    keys: &KeyCache,
    limits: &Limits,
    now_ms: u64,
) -> PyResult<Bound<'py, PyList>> {
    let envelopes = bounded(envelopes)?;
    let rules = core::Rules {
        genesis: exactly("genesis", genesis)?,
        keys: &keys.0,
        limits: &limits.0,
        now_ms,
    };
    let results = py.detach(|| core::check_batch(&envelopes, &rules));
    let list = PyList::empty(py);
    for (envelope, result) in envelopes.iter().zip(results) {
        match result {
            Ok(checked) => {
                list.append(Bound::new(py, Transaction::new(py, envelope, &checked)?)?)?
            }
            Err(refusal) => list.append(Bound::new(py, Refusal(refusal))?)?,
        }
    }
    Ok(list)
}

/// Reads envelopes in the stored form, as `Transaction.envelope` gives them, on all cores. Their
/// signatures were checked before they were stored.
///
/// Raises:
///     ValueError: naming the first envelope that is not in the stored form; or there are more
///         than `ENVELOPES_MAX`.
#[pyfunction]
fn decode_batch<'py>(
    py: Python<'py>,
    envelopes: &Bound<'py, PySequence>,
) -> PyResult<Bound<'py, PyList>> {
    let envelopes = bounded(envelopes)?;
    let results = py.detach(|| core::decode_batch(&envelopes));
    let list = PyList::empty(py);
    for (index, (envelope, result)) in envelopes.iter().zip(results).enumerate() {
        let decoded = result
            .map_err(|refusal| PyValueError::new_err(format!("envelopes[{index}]: {refusal}")))?;
        list.append(Bound::new(py, Transaction::new(py, envelope, &decoded)?)?)?;
    }
    Ok(list)
}

fn bounded(envelopes: &Bound<'_, PySequence>) -> PyResult<Vec<PyBackedBytes>> {
    let count = envelopes.len()?;
    if count > ENVELOPES_MAX {
        let message = format!("envelopes has {count} items, at most {ENVELOPES_MAX} are allowed");
        return Err(PyValueError::new_err(message));
    }
    envelopes.extract()
}

/// SHA-256("citychain/tx/v1\0" || body), 32 bytes.
#[pyfunction]
fn tx_id<'py>(py: Python<'py>, body: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &core::tx_id(body))
}

/// SHA-256("citychain/key/v1\0" || scheme as one byte || public key), 32 bytes.
#[pyfunction]
#[pyo3(signature = (public_key, scheme=1))]
fn key_id<'py>(py: Python<'py>, public_key: &[u8], scheme: u8) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &core::key_id(scheme, public_key))
}
