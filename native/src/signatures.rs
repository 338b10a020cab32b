//! `citychain._native.signatures`; its types stand in `citychain/_native/signatures.pyi`.

use citychain_core::signatures::{PUBLIC_KEY_BYTES, SEED_BYTES, SIGNATURE_BYTES};
use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("PUBLIC_KEY_BYTES", PUBLIC_KEY_BYTES)?;
    module.add("SIGNATURE_BYTES", SIGNATURE_BYTES)?;
    module.add("SEED_BYTES", SEED_BYTES)?;
    Ok(())
}
