//! A list in which no two entries have the same `key_id`.

use std::collections::HashSet;

use crate::Hash;
use crate::transactions::refusal::Refusal;

pub struct Keyed<'a, T> {
    pub entries: Vec<T>,
    seen: HashSet<&'a Hash>,
}

impl<'a, T> Keyed<'a, T> {
    pub fn new() -> Self {
        Keyed {
            entries: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Adds what was parsed, with its key id, to the `list` of at most `maximum` entries.
    pub fn push(
        &mut self,
        parsed: Result<(&'a Hash, T), Refusal>,
        list: &str,
        maximum: usize,
    ) -> Result<(), Refusal> {
        let name = || format!("{list}[{}]", self.entries.len());
        if self.entries.len() == maximum {
            let detail = format!("is one too many, at most {maximum} are allowed");
            return Err(Refusal::malformed(&name(), detail));
        }
        let (key_id, entry) = parsed.map_err(|refusal| refusal.within(&name()))?;
        if !self.seen.insert(key_id) {
            let refusal = Refusal::malformed("key_id", "is an earlier entry's too");
            return Err(refusal.within(&name()));
        }
        self.entries.push(entry);
        Ok(())
    }
}
