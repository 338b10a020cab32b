//! What a city bounds in the transactions it admits.

use super::envelope::OVERHEAD_BYTES;
use crate::signatures::PUBLIC_KEY_BYTES;

/// A city's bounds. Past one of them a transaction is refused as `TOO_LARGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub body_bytes_max: usize,
    pub reads_max: usize,
    pub writes_max: usize,
    pub object_id_bytes_max: usize,
    pub content_type_bytes_max: usize,
}

impl Limits {
    pub const DEFAULT: Limits = Limits {
        body_bytes_max: 64 * 1024,
        reads_max: 16,
        writes_max: 16,
        object_id_bytes_max: 128,
        content_type_bytes_max: 64,
    };

    /// The format's own bounds, which no city may go past; what is stored stays within them.
    pub const WIDEST: Limits = Limits {
        body_bytes_max: 4 * 1024 * 1024,
        ..Limits::DEFAULT
    };

    /// The first limit that is past [`Limits::WIDEST`], by name, with the widest it may be.
    pub fn past_widest(&self) -> Option<(&'static str, usize)> {
        let widest = Limits::WIDEST;
        [
            ("body_bytes_max", self.body_bytes_max, widest.body_bytes_max),
            ("reads_max", self.reads_max, widest.reads_max),
            ("writes_max", self.writes_max, widest.writes_max),
            (
                "object_id_bytes_max",
                self.object_id_bytes_max,
                widest.object_id_bytes_max,
            ),
            (
                "content_type_bytes_max",
                self.content_type_bytes_max,
                widest.content_type_bytes_max,
            ),
        ]
        .into_iter()
        .find_map(|(name, limit, widest)| (limit > widest).then_some((name, widest)))
    }

    /// The longest envelope worth reading: the longest body, with its key by value.
    pub fn envelope_bytes_max(&self) -> usize {
        self.body_bytes_max + PUBLIC_KEY_BYTES + OVERHEAD_BYTES
    }
}
