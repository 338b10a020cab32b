//! `citychain._native.signatures`; its types stand in `citychain/_native/signatures.pyi`.

use std::sync::Arc;

use citychain_core::signatures as core;
use citychain_core::signatures::internal;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

pyo3::import_exception!(citychain.errors, InvalidSignature);

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("PUBLIC_KEY_BYTES", core::PUBLIC_KEY_BYTES)?;
    module.add("SIGNATURE_BYTES", core::SIGNATURE_BYTES)?;
    module.add("SEED_BYTES", core::SEED_BYTES)?;
    module.add("CONTEXT_BYTES_MAX", core::CONTEXT_BYTES_MAX)?;
    module.add_class::<SigningKey>()?;
    module.add_class::<PreparedKey>()?;
    module.add_class::<KeyCache>()?;
    module.add_function(wrap_pyfunction!(verify, module)?)?;
    module.add_function(wrap_pyfunction!(verify_batch, module)?)?;
    module.add_function(wrap_pyfunction!(key_pair_internal, module)?)?;
    module.add_function(wrap_pyfunction!(sign_internal, module)?)?;
    module.add_function(wrap_pyfunction!(verify_internal, module)?)?;
    module.add_function(wrap_pyfunction!(verify_prepared_internal, module)?)
}

/// A key that signs, generated from a secret seed of 32 bytes.
///
/// It shows no secret when printed and is wiped from memory at its end.
///
/// Raises:
///     ValueError: the seed has another length.
#[pyclass(frozen, module = "citychain._native.signatures")]
pub struct SigningKey(core::SigningKey);

#[pymethods]
impl SigningKey {
    #[new]
    fn new(py: Python<'_>, seed: &[u8]) -> PyResult<Self> {
        let seed = exactly("seed", seed)?;
        Ok(Self(py.detach(|| core::SigningKey::from_seed(seed))))
    }

    #[getter]
    fn public_key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.public_key())
    }

    /// Signs a message under a context of at most 255 bytes.
    ///
    /// The signature is hedged with fresh randomness, or else reproducible if `deterministic`;
    /// both kinds verify alike.
    ///
    /// Raises:
    ///     ValueError: the context is too long.
    #[pyo3(signature = (message, context, *, deterministic=false))]
    fn sign<'py>(
        &self,
        py: Python<'py>,
        message: &[u8],
        context: &[u8],
        deterministic: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let signature = py.detach(|| self.0.sign(message, context, deterministic));
        Ok(PyBytes::new(py, &signature.map_err(to_python)?))
    }

    /// Signs each message as `sign` does, on all cores; the signatures stand in the same order.
    ///
    /// Raises:
    ///     ValueError: the context is too long.
    #[pyo3(signature = (messages, context, *, deterministic=false))]
    fn sign_batch<'py>(
        &self,
        py: Python<'py>,
        messages: Vec<PyBackedBytes>,
        context: &[u8],
        deterministic: bool,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let signatures = py.detach(|| self.0.sign_batch(&messages, context, deterministic));
        let signatures = signatures.map_err(to_python)?;
        Ok(signatures
            .iter()
            .map(|signature| PyBytes::new(py, signature))
            .collect())
    }
}

/// A public key (2592 bytes) made ready for many verifications; it takes about 66 KB.
///
/// Raises:
///     ValueError: the public key has another length.
#[pyclass(frozen, module = "citychain._native.signatures")]
pub struct PreparedKey(pub Arc<core::PreparedKey>);

#[pymethods]
impl PreparedKey {
    #[new]
    fn new(py: Python<'_>, public_key: &[u8]) -> PyResult<Self> {
        let key = py.detach(|| core::PreparedKey::new(public_key));
        Ok(Self(Arc::new(key.map_err(to_python)?)))
    }

    #[getter]
    fn public_key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.public_key())
    }

    /// Verifies one signature.
    ///
    /// Raises:
    ///     InvalidSignature: as `verify` does.
    fn verify(
        &self,
        py: Python<'_>,
        message: &[u8],
        context: &[u8],
        signature: &[u8],
    ) -> PyResult<()> {
        holds(py.detach(|| self.0.verify(message, context, signature)))
    }
}

/// Public keys by their 32-byte id, the busiest of them prepared; safe to share between threads.
///
/// It holds at most `prepared` prepared keys (66 KB each) and `public` further public keys (2.6 KB
/// each). The caller answers for it that an id belongs to its key.
#[pyclass(frozen, module = "citychain._native.signatures")]
pub struct KeyCache(pub core::KeyCache);

#[pymethods]
impl KeyCache {
    #[new]
    #[pyo3(signature = (prepared=1024, public=16384))]
    fn new(prepared: usize, public: usize) -> Self {
        Self(core::KeyCache::new(prepared, public))
    }

    /// The key of this id, prepared now if only its public key is held; None if it is unknown.
    fn get(&self, py: Python<'_>, key_id: &[u8]) -> PyResult<Option<PreparedKey>> {
        let key_id = exactly("key_id", key_id)?;
        Ok(py.detach(|| self.0.get(key_id)).map(PreparedKey))
    }

    /// Holds a prepared key; the one it displaces stays as a public key.
    fn insert(&self, key_id: &[u8], key: &PreparedKey) -> PyResult<()> {
        self.0
            .insert(*exactly("key_id", key_id)?, Arc::clone(&key.0));
        Ok(())
    }

    /// Holds a public key, to be prepared when it is first asked for.
    fn add_public_key(&self, key_id: &[u8], public_key: &[u8]) -> PyResult<()> {
        let public_key = exactly("public_key", public_key)?;
        self.0
            .add_public_key(*exactly("key_id", key_id)?, public_key);
        Ok(())
    }

    /// How many keys are held, prepared or not.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// How many of the keys held are prepared.
    #[getter]
    fn prepared_len(&self) -> usize {
        self.0.prepared_len()
    }
}

/// Verifies one signature by an encoded public key.
///
/// Raises:
///     InvalidSignature: the signature does not hold, or the key, the context or the signature has
///         an impossible length.
#[pyfunction]
fn verify(
    py: Python<'_>,
    public_key: &[u8],
    message: &[u8],
    context: &[u8],
    signature: &[u8],
) -> PyResult<()> {
    holds(py.detach(|| core::verify(public_key, message, context, signature)))
}

type Signed = (PyBackedBytes, PyBackedBytes, PyBackedBytes, PyBackedBytes);

/// Verifies items of (public key, message, context, signature), on all cores.
///
/// Each item is judged by itself, and whatever is malformed does not hold. A key that stands in
/// several items is prepared once.
///
/// Returns:
///     Whether each item holds, in the order of the items.
#[pyfunction]
fn verify_batch(py: Python<'_>, items: Vec<Signed>) -> Vec<bool> {
    py.detach(|| core::verify_signed(&items.iter().map(borrow).collect::<Vec<_>>()))
}

fn borrow((public_key, message, context, signature): &Signed) -> core::Signed<'_> {
    core::Signed {
        public_key,
        message,
        context,
        signature,
    }
}

#[pyfunction]
fn key_pair_internal<'py>(
    py: Python<'py>,
    seed: &[u8],
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let (public, private) = internal::key_pair(exactly("seed", seed)?);
    Ok((PyBytes::new(py, &public), PyBytes::new(py, &private)))
}

#[pyfunction]
fn sign_internal<'py>(
    py: Python<'py>,
    private_key: &[u8],
    message: &[u8],
    randomness: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let private_key = exactly("private_key", private_key)?;
    let signature = internal::sign(private_key, message, exactly("randomness", randomness)?);
    Ok(PyBytes::new(
        py,
        &signature.ok_or(core::Error::Signing).map_err(to_python)?,
    ))
}

#[pyfunction]
fn verify_internal(public_key: &[u8], message: &[u8], signature: &[u8]) -> PyResult<bool> {
    Ok(internal::verify(
        exactly("public_key", public_key)?,
        message,
        signature,
    ))
}

#[pyfunction]
fn verify_prepared_internal(key: &PreparedKey, message: &[u8], signature: &[u8]) -> bool {
    internal::verify_prepared(&key.0, message, signature)
}

fn holds(verified: bool) -> PyResult<()> {
    if verified {
        return Ok(());
    }
    Err(InvalidSignature::new_err(
        "the signature does not hold for this key, message and context",
    ))
}

pub(crate) fn exactly<'a, const N: usize>(name: &str, bytes: &'a [u8]) -> PyResult<&'a [u8; N]> {
    bytes.try_into().map_err(|_| {
        PyValueError::new_err(format!("{name} must have {N} bytes, not {}", bytes.len()))
    })
}

fn to_python(error: core::Error) -> PyErr {
    match error {
        core::Error::PublicKeyLength(_) | core::Error::ContextLength(_) => {
            PyValueError::new_err(error.to_string())
        }
        core::Error::Signing => PyRuntimeError::new_err(error.to_string()),
    }
}
