//! The class `Transaction`.

use std::hash::{DefaultHasher, Hash, Hasher};

use citychain_core::transactions as core;
use citychain_core::transactions::{Action, Body, Checked, Signer, StoredForm};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyTuple};

use super::actions;
use crate::records::STAKE;

/// A transaction whose bytes follow the format. Only `check_batch` and `decode_batch` make one.
///
/// It keeps its envelope in the stored form; attributes are read from there when asked for.
/// Two are equal if their ids are.
#[pyclass(frozen, module = "citychain._native.transactions")]
pub struct Transaction {
    tx_id: [u8; 32],
    author: [u8; 32],
    envelope: PyBackedBytes,
    form: StoredForm,
    public_key: Option<Py<PyBytes>>,
}

impl Transaction {
    /// The one place where the bytes of an envelope may be copied: if it did not come in the
    /// stored form. Otherwise the object that was received is kept.
    pub fn new(py: Python<'_>, received: &PyBackedBytes, checked: &Checked<'_>) -> PyResult<Self> {
        let envelope = &checked.envelope;
        let form = StoredForm::new(envelope.body.len());
        let stored = match envelope.is_stored_form {
            true => received.clone_ref(py),
            false => PyBytes::new_with(py, form.size(), |out| {
                form.write(envelope, checked.author, out);
                Ok(())
            })?
            .into(),
        };
        let public_key = match envelope.signer {
            Signer::PublicKey(bytes) => Some(PyBytes::new(py, bytes).unbind()),
            Signer::KeyId(_) => None,
        };
        Ok(Self {
            tx_id: checked.tx_id,
            author: *checked.author,
            envelope: stored,
            form,
            public_key,
        })
    }

    pub fn id(&self) -> &[u8; 32] {
        &self.tx_id
    }

    fn body_bytes(&self) -> &[u8] {
        &self.envelope[self.form.body()]
    }

    pub fn parsed(&self) -> Body<'_> {
        Body::parse(self.body_bytes(), &core::Limits::WIDEST)
            .expect("a transaction is made from a body that was parsed")
    }
}

#[pymethods]
impl Transaction {
    #[getter]
    fn tx_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.tx_id)
    }

    #[getter]
    fn genesis<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.parsed().genesis)
    }

    #[getter]
    fn author<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.author)
    }

    #[getter]
    fn nonce<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.parsed().nonce)
    }

    #[getter]
    fn created_at_ms(&self) -> u64 {
        self.parsed().created_at_ms
    }

    #[getter]
    fn valid_until_ms(&self) -> Option<u64> {
        self.parsed().valid_until_ms
    }

    #[getter]
    fn depends_on<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let ids = self.parsed().depends_on;
        PyTuple::new(py, ids.into_iter().map(|id| PyBytes::new(py, id)))
    }

    #[getter]
    fn reads<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        versions(py, &self.parsed().reads)
    }

    #[getter]
    fn writes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        versions(py, &self.parsed().writes)
    }

    /// What it does, by the name of its field in `TransactionBody`. The attribute of that name, or
    /// `content_type` and `content`, or `stake`, has the rest; those of other actions are None.
    #[getter]
    fn action(&self) -> &'static str {
        self.parsed().action.name()
    }

    #[getter]
    fn content_type(&self) -> Option<&str> {
        match self.parsed().action {
            Action::Data { content_type, .. } => Some(content_type),
            _ => None,
        }
    }

    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        match self.parsed().action {
            Action::Data { content, .. } => Some(PyBytes::new(py, content)),
            _ => None,
        }
    }

    #[getter]
    fn transfer<'py>(&self, py: Python<'py>) -> Option<(&str, Bound<'py, PyBytes>, u64)> {
        match self.parsed().action {
            Action::Transfer { asset, to, amount } => Some((asset, PyBytes::new(py, to), amount)),
            _ => None,
        }
    }

    #[getter]
    fn presence<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Presence(presence) => actions::presence(py, &presence).map(Some),
            _ => Ok(None),
        }
    }

    /// What a candidacy or a withdrawal moves.
    #[getter]
    fn stake<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Candidacy(stake) | Action::Withdrawal(stake) => {
                STAKE.make(py, (stake.asset, stake.amount)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A witness's public key, and whether it is revoked.
    #[getter]
    fn witness<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyBytes>, bool)> {
        match self.parsed().action {
            Action::Witness {
                public_key,
                revoked,
            } => Some((PyBytes::new(py, public_key), revoked)),
            _ => None,
        }
    }

    #[getter]
    fn equivocation<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Equivocation(votes) => actions::equivocation(py, &votes).map(Some),
            _ => Ok(None),
        }
    }

    #[getter]
    fn recovery<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Recovery(recovery) => actions::recovery(py, &recovery).map(Some),
            _ => Ok(None),
        }
    }

    #[getter]
    fn peer<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Peer { genesis_file } => actions::peer(py, genesis_file).map(Some),
            _ => Ok(None),
        }
    }

    #[getter]
    fn remittance<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Remittance(remittance) => actions::remittance(py, &remittance).map(Some),
            _ => Ok(None),
        }
    }

    #[getter]
    fn delivery<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Delivery(delivery) => actions::delivery(py, &delivery).map(Some),
            _ => Ok(None),
        }
    }

    #[getter]
    fn settlement<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Settlement(settlement) => actions::settlement(py, &settlement).map(Some),
            _ => Ok(None),
        }
    }

    #[getter]
    fn anchor<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Anchor(anchor) => actions::anchor(py, &anchor).map(Some),
            _ => Ok(None),
        }
    }

    #[getter]
    fn reward<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.parsed().action {
            Action::Reward(reward) => actions::reward(py, &reward).map(Some),
            _ => Ok(None),
        }
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.body_bytes())
    }

    #[getter]
    fn scheme(&self) -> u8 {
        core::SCHEME_ML_DSA_87
    }

    #[getter]
    fn signature<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.envelope[self.form.signature()])
    }

    /// The stored form: `SignedTransaction {body, scheme, key_id, signature}` in this order.
    #[getter]
    fn envelope(&self) -> &PyBackedBytes {
        &self.envelope
    }

    /// Length of `envelope` in bytes.
    #[getter]
    fn size(&self) -> usize {
        self.envelope.len()
    }

    /// Given only if the received envelope carried the key by value.
    #[getter]
    fn public_key(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.public_key.as_ref().map(|key| key.clone_ref(py))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.tx_id == other.tx_id
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.tx_id.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        let id: String = self.tx_id[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!(
            "<Transaction {id}… {}, {} bytes>",
            self.action(),
            self.size()
        )
    }
}

fn versions<'py>(
    py: Python<'py>,
    objects: &[core::ObjectVersion<'_>],
) -> PyResult<Bound<'py, PyTuple>> {
    let pair = |entry: &core::ObjectVersion<'_>| (entry.object.to_owned(), entry.version);
    PyTuple::new(py, objects.iter().map(pair))
}
