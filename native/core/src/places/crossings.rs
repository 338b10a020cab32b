//! Refuses a polygon whose edges cross.
//!
//! Edges that touch, or that lie one upon the other, do not cross: real borders do so, and which
//! points are inside is clear. A position was rounded to whole units, which moves it by up to 0.71
//! units and can make edges cross that only came near each other. So where an end of one of two
//! edges lies within one unit (11 mm) of the other's line, that is not counted as a crossing.

use super::rings::Vertex;
use super::{Fault, HALF_TURN, TURN};

/// Latitudes are cut into so many strips at most: edges in different ones are not compared.
const STRIPS_MAX: usize = 1 << 10;

struct Edge {
    west: Vertex,
    east: Vertex,
    ring: usize,
    start: Vertex,
}

/// Compares edges that share some longitude and a strip of latitudes.
pub fn check(rings: &[Vec<Vertex>]) -> Result<(), Fault> {
    let mut edges = Vec::with_capacity(rings.iter().map(Vec::len).sum());
    for (ring, vertices) in rings.iter().enumerate() {
        for pair in vertices.windows(2).filter(|pair| pair[0] != pair[1]) {
            edges.push(Edge {
                west: pair[0].min(pair[1]),
                east: pair[0].max(pair[1]),
                ring,
                start: pair[0],
            });
        }
    }
    edges.sort_unstable_by_key(|edge| edge.west.0);
    let latitudes = || rings.iter().flatten().map(|vertex| vertex.1);
    let south = latitudes().min().unwrap_or(0);
    let height = latitudes().max().unwrap_or(0) - south + 1;
    let strips = edges.len().clamp(1, STRIPS_MAX);
    let strip_of = |y: i64| ((y - south) as usize * strips) / height as usize;

    let mut open: Vec<Vec<u32>> = vec![Vec::new(); strips];
    for (index, edge) in edges.iter().enumerate() {
        let (low, high) = (edge.west.1.min(edge.east.1), edge.west.1.max(edge.east.1));
        for strip in &mut open[strip_of(low)..=strip_of(high)] {
            strip.retain(|&other| edges[other as usize].east.0 >= edge.west.0);
            for &other in strip.iter() {
                let other = &edges[other as usize];
                if crosses(edge, other) {
                    return Err(fault(edge, other));
                }
            }
            strip.push(index as u32);
        }
    }
    Ok(())
}

fn crosses(a: &Edge, b: &Edge) -> bool {
    let [c, d] = [b.west, b.east].map(|end| side(a, end));
    let [e, f] = [a.west, a.east].map(|end| side(b, end));
    let opposite = |one: i128, other: i128| one.signum() * other.signum() < 0;
    opposite(c, d) && opposite(e, f) && !near(a, c) && !near(a, d) && !near(b, e) && !near(b, f)
}

/// Twice the area of the triangle of an edge and a vertex: positive if that is on the left.
fn side(edge: &Edge, (x, y): Vertex) -> i128 {
    let ((x1, y1), (x2, y2)) = (edge.west, edge.east);
    i128::from(x2 - x1) * i128::from(y - y1) - i128::from(x - x1) * i128::from(y2 - y1)
}

/// Whether a vertex with this `side` is at most one unit away from the edge's line.
fn near(edge: &Edge, side: i128) -> bool {
    let (width, height) = (edge.east.0 - edge.west.0, edge.east.1 - edge.west.1);
    let square = |value: i64| u128::from(value.unsigned_abs()).pow(2);
    // A side is below 2^64, so its square has 128 bits.
    side.unsigned_abs().pow(2) <= square(width) + square(height)
}

fn fault(edge: &Edge, other: &Edge) -> Fault {
    let half = i64::from(HALF_TURN);
    Fault::Crossing {
        ring: edge.ring,
        other: other.ring,
        latitude: edge.start.1 as i32,
        longitude: ((edge.start.0 + half).rem_euclid(TURN) - half) as i32,
    }
}
