//! The named tuples of `citychain.types`, made and read.

use citychain_core::link::NodeRef;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple, PyType};

use crate::signatures::exactly;

/// A named tuple class of `citychain.types`, looked up on first use.
pub struct Record {
    name: &'static str,
    class: PyOnceLock<Py<PyType>>,
}

pub static ANCHOR: Record = Record::new("Anchor");
pub static DELIVERY: Record = Record::new("Delivery");
pub static EQUIVOCATION: Record = Record::new("Equivocation");
pub static NODE_REF: Record = Record::new("NodeRef");
pub static OBJECT_WRITE: Record = Record::new("ObjectWrite");
pub static PEER: Record = Record::new("Peer");
pub static PRESENCE: Record = Record::new("Presence");
pub static RECOVERY: Record = Record::new("Recovery");
pub static REJECTION: Record = Record::new("Rejection");
pub static REMITTANCE: Record = Record::new("Remittance");
pub static REWARD: Record = Record::new("Reward");
pub static SEAT: Record = Record::new("Seat");
pub static SETTLEMENT: Record = Record::new("Settlement");
pub static STAKE: Record = Record::new("Stake");
pub static WITNESS_SIGNATURE: Record = Record::new("WitnessSignature");

impl Record {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            class: PyOnceLock::new(),
        }
    }

    /// An instance with these fields. `tuple.__new__` is called, since the class's own is a
    /// Python function several times slower.
    pub fn make<'py>(
        &self,
        py: Python<'py>,
        fields: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let class = self.class.import(py, "citychain.types", self.name)?;
        let fields = fields.into_pyobject(py)?;
        py.get_type::<PyTuple>()
            .call_method1(intern!(py, "__new__"), (class, fields))
    }
}

/// A node reference with the tuple that it was read from, which is what goes back to Python.
pub struct Reference {
    pub node: NodeRef,
    pub object: Py<PyAny>,
}

impl AsRef<NodeRef> for Reference {
    fn as_ref(&self) -> &NodeRef {
        &self.node
    }
}

impl Reference {
    /// Reads a tuple of (round, seq, node id) of a round before `round`; `name` is for errors.
    pub fn read(name: &str, object: &Bound<'_, PyAny>, round: u64) -> PyResult<Self> {
        let node = node_ref(name, object)?;
        if node.round >= round {
            let message = format!(
                "{name}: a node of round {} is not before {round}",
                node.round
            );
            return Err(PyValueError::new_err(message));
        }
        let object = object.clone().unbind();
        Ok(Self { node, object })
    }

    /// How a city's genesis stands among parents.
    pub fn genesis(py: Python<'_>, genesis: &[u8; 32]) -> PyResult<Self> {
        let node = NodeRef {
            round: 0,
            seq: 0,
            node_id: *genesis,
        };
        let object = NODE_REF
            .make(py, (0, 0, PyBytes::new(py, genesis)))?
            .unbind();
        Ok(Self { node, object })
    }
}

/// Reads a tuple of (round, seq, node id).
pub fn node_ref(name: &str, object: &Bound<'_, PyAny>) -> PyResult<NodeRef> {
    let (round, seq, node_id): (u64, u32, Bound<'_, PyBytes>) = object.extract()?;
    let node_id = *exactly(name, node_id.as_bytes())?;
    Ok(NodeRef {
        round,
        seq,
        node_id,
    })
}
