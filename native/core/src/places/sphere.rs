//! Distances on a sphere, in integers, so that everybody computes the same.
//!
//! The earth is a sphere with a radius of 6,371,009 m, the mean radius of WGS 84. What stands for a
//! distance is the chord: the straight line through the earth, squared, in whole square metres. Up
//! to 100 km it is shorter than the way over the ground by less than 1.1 m, up to 1,000 km by
//! 1.03 km. A disc is all points whose chord to its centre is at most its radius.
//!
//! Fixed-point numbers here have 40 fractional bits; division and `>>` round down, also below zero.
//!
//! ```text
//! PI      = 3454217652358                       round(pi * 2^40)
//! sine(a), a in units of 1e-7 degree:
//!     a mod 3_600_000_000;  where a >= 1_800_000_000, -sine(a - 1_800_000_000)
//!     where a > 900_000_000, sine(1_800_000_000 - a)
//!     where a > 450_000_000, the second series with angle 900_000_000 - a, else the first with a
//!     t = (angle * PI + 900_000_000) / 1_800_000_000;  q = t * t >> 40
//!     first:  term = t,    then term = (term * q >> 40) / (n * (n + 1)) for n = 2, 4, 6, ...
//!     second: term = 2^40, then term = (term * q >> 40) / (n * (n + 1)) for n = 1, 3, 5, ...
//!     the terms are added with signs + - + - ... until one is zero
//! cosine(a) = sine(a + 900_000_000)
//! vector(latitude, longitude), longitude being 0 at a pole and -180 degrees instead of 180:
//!     x = cosine(latitude) * cosine(longitude) >> 40
//!     y = cosine(latitude) * sine(longitude) >> 40
//!     z = sine(latitude)
//! chord_squared = (dx^2 + dy^2 + dz^2) * 6_371_009^2 >> 80
//! ```
//!
//! A component is off by less than 2^-38, a chord by less than 0.1 mm, before it is rounded down.

use super::rings::Bounds;
use super::{HALF_TURN, POLE, Position, TURN};

/// The mean radius of the earth, in metres.
pub const RADIUS_M: u64 = 6_371_009;
/// Discs are no larger: twice the radius of the earth, so that every point is inside.
pub const DISC_RADIUS_M_MAX: u32 = 2 * RADIUS_M as u32;

const FRACTION: u32 = 40;
const PI: u64 = 3_454_217_652_358;

/// The squared chord between two points, in whole square metres.
pub fn chord_squared(one: Position, other: Position) -> u64 {
    between(vector(one), vector(other))
}

/// A disc.
pub struct Cap {
    centre: Position,
    vector: [i64; 3],
    radius_m: u32,
}

impl Cap {
    pub fn new(centre: Position, radius_m: u32) -> Self {
        Self {
            centre,
            vector: vector(centre),
            radius_m,
        }
    }

    pub fn contains(&self, point: Position) -> bool {
        between(self.vector, vector(point)) <= u64::from(self.radius_m).pow(2)
    }

    /// A box around it that may be too large: it only says where the index has to know the disc.
    pub fn bounds(&self) -> Bounds {
        // An arc is at most pi/2 times its chord, and a metre of arc is 89.94 units of latitude;
        // one unit more is for what `contains` rounds down.
        let reach = (i64::from(self.radius_m) + 1) * 142;
        let latitude = i64::from(self.centre.latitude);
        let pole = i64::from(POLE);
        let (south, north) = ((latitude - reach).max(-pole), (latitude + reach).min(pole));
        // Half the difference in longitude has a sine of at most chord / (2 * radius * cosine),
        // the cosine being the least in the box.
        let cosine = sine(pole + south.abs().max(north.abs()));
        let half = i64::from(HALF_TURN);
        let reach = if cosine == 0 {
            half
        } else {
            ((i128::from(reach) << FRACTION) / i128::from(cosine) + 1).min(i128::from(half)) as i64
        };
        let west = i64::from(self.centre.longitude) - reach;
        Bounds {
            west: (west + half).rem_euclid(TURN) - half,
            span: 2 * reach,
            south,
            north,
        }
    }
}

fn between(one: [i64; 3], other: [i64; 3]) -> u64 {
    let squares = one
        .iter()
        .zip(&other)
        .map(|(a, b)| u128::from(a.abs_diff(*b)).pow(2));
    // At most 4 * 2^80 * RADIUS_M^2, which is below 2^128.
    ((squares.sum::<u128>() * u128::from(RADIUS_M).pow(2)) >> (2 * FRACTION)) as u64
}

fn vector(point: Position) -> [i64; 3] {
    let (latitude, longitude) = (i64::from(point.latitude), i64::from(point.longitude));
    let quarter = i64::from(POLE);
    let product = |a: i64, b: i64| ((i128::from(a) * i128::from(b)) >> FRACTION) as i64;
    let cosine = sine(latitude + quarter);
    [
        product(cosine, sine(longitude + quarter)),
        product(cosine, sine(longitude)),
        sine(latitude),
    ]
}

pub(super) fn sine(angle: i64) -> i64 {
    let (half, quarter) = (i64::from(HALF_TURN), i64::from(POLE));
    let angle = angle.rem_euclid(TURN);
    if angle >= half {
        return -sine(angle - half);
    }
    let angle = angle.min(half - angle);
    if angle > quarter / 2 {
        series(quarter - angle, 1 << FRACTION, 1)
    } else {
        series(angle, radians(angle), 2)
    }
}

fn radians(angle: i64) -> u64 {
    let half = HALF_TURN as u128;
    ((angle as u128 * u128::from(PI) + half / 2) / half) as u64
}

fn series(angle: i64, first: u64, mut divisor: u64) -> i64 {
    let product = |a: u64, b: u64| ((u128::from(a) * u128::from(b)) >> FRACTION) as u64;
    let t = radians(angle);
    let square = product(t, t);
    let (mut term, mut sum, mut sign) = (first, 0, 1);
    while term > 0 {
        sum += sign * term as i64;
        sign = -sign;
        term = product(term, square) / (divisor * (divisor + 1));
        divisor += 2;
    }
    sum
}
