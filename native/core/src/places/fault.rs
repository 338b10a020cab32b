//! What is wrong with a region.

use std::fmt;

/// What is wrong with one polygon, its rings counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Empty,
    Odd {
        ring: usize,
        length: usize,
    },
    Short {
        ring: usize,
        positions: usize,
    },
    Range {
        ring: usize,
        position: usize,
    },
    Open {
        ring: usize,
    },
    Pole {
        ring: usize,
    },
    Span {
        ring: usize,
    },
    Area {
        ring: usize,
    },
    Crossing {
        ring: usize,
        other: usize,
        latitude: i32,
        longitude: i32,
    },
    Hole {
        ring: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => write!(f, "it has no ring"),
            Self::Odd { ring, length } => write!(
                f,
                "ring {ring} has {length} numbers, not a latitude and a longitude each"
            ),
            Self::Short { ring, positions } => {
                write!(
                    f,
                    "ring {ring} has {positions} positions; at least 4 are needed"
                )
            }
            Self::Range { ring, position } => write!(
                f,
                "position {position} of ring {ring} is not on the earth: latitude is from -90 to \
                 90 degrees, longitude from -180 to 180"
            ),
            Self::Open { ring } => {
                write!(
                    f,
                    "ring {ring} is not closed: its last position must be its first"
                )
            }
            Self::Pole { ring } => write!(
                f,
                "ring {ring} goes round a pole: lead it to that pole along a meridian, along the \
                 pole by two positions with its latitude, and back"
            ),
            Self::Span { ring } => write!(f, "ring {ring} spans more than 360 degrees"),
            Self::Area { ring } => write!(f, "ring {ring} has no area"),
            Self::Crossing {
                ring,
                other,
                latitude,
                longitude,
            } => {
                let with = if ring == other {
                    "itself".to_owned()
                } else {
                    format!("ring {other}")
                };
                let degrees = |units: i32| f64::from(units) / 1e7;
                write!(
                    f,
                    "ring {ring} crosses {with} on the edge that begins at latitude {}, longitude {}",
                    degrees(latitude),
                    degrees(longitude)
                )
            }
            Self::Hole { ring } => {
                write!(f, "ring {ring}, a hole, is not inside ring 0, its shell")
            }
        }
    }
}

/// What is wrong with a file of regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
