//! Rings, checked and laid out in the plane.

use super::crossings;
use super::{Fault, HALF_TURN, POLE, Position, TURN};

/// A vertex in the plane: longitude, which goes on past 180 degrees, and latitude.
pub type Vertex = (i64, i64);

/// A polygon that can be looked points up in: a shell, then its holes.
#[derive(Clone)]
pub struct Polygon {
    /// Vertices of each ring, the last being the first again; the shell begins at or west of the
    /// others, and all are in the same turn of the earth.
    pub(super) rings: Vec<Vec<Vertex>>,
    pub(super) bounds: Bounds,
}

/// The least box around a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From -180 degrees to less than 180.
    pub west: i64,
    /// From `west` to the east, at most 360 degrees.
    pub span: i64,
    pub south: i64,
    pub north: i64,
}

impl Bounds {
    /// Whether they have a point in common; an edge or a corner is enough.
    pub fn touches(&self, other: &Self) -> bool {
        let east = |from: &Self, to: &Self| (to.west - from.west).rem_euclid(TURN) <= from.span;
        self.south <= other.north
            && other.south <= self.north
            && (east(self, other) || east(other, self))
    }
}

impl Polygon {
    /// Checks flat rings: the shell, then holes.
    ///
    /// # Errors
    /// What is wrong with the first bad ring.
    pub fn new<R: AsRef<[i32]>>(rings: &[R]) -> Result<Self, Fault> {
        let mut rings: Vec<Vec<Vertex>> = rings
            .iter()
            .enumerate()
            .map(|(ring, flat)| unwrap(ring, flat.as_ref()))
            .collect::<Result<_, _>>()?;
        let Some((shell, holes)) = rings.split_first_mut() else {
            return Err(Fault::Empty);
        };
        let (west, east) = extent(shell.iter().map(|vertex| vertex.0));
        shift(shell, normal(west) - west);
        let (west, east) = (normal(west), normal(west) + east - west);
        for (hole, ring) in holes.iter_mut().zip(1..) {
            let (hole_west, hole_east) = extent(hole.iter().map(|vertex| vertex.0));
            let offset = (hole_west - west).rem_euclid(TURN);
            if west + offset + hole_east - hole_west > east {
                return Err(Fault::Hole { ring });
            }
            shift(hole, west + offset - hole_west);
        }
        crossings::check(&rings)?;
        let (shell, holes) = rings.split_first().expect("there is a shell");
        for (hole, ring) in holes.iter().zip(1..) {
            // As no edges cross, one vertex off the shell's border stands for all of the hole.
            let side = hole
                .iter()
                .find_map(|&vertex| strictly_inside(shell, vertex));
            if side == Some(false) {
                return Err(Fault::Hole { ring });
            }
        }
        let (south, north) = extent(shell.iter().map(|vertex| vertex.1));
        let bounds = Bounds {
            west,
            span: east - west,
            south,
            north,
        };
        Ok(Self { rings, bounds })
    }

    /// Each edge of each ring.
    pub(super) fn edges(&self) -> impl Iterator<Item = (Vertex, Vertex)> + '_ {
        self.rings
            .iter()
            .flat_map(|ring| ring.windows(2).map(|pair| (pair[0], pair[1])))
    }
}

/// The ring in the plane, its first vertex where its first position says.
fn unwrap(ring: usize, flat: &[i32]) -> Result<Vec<Vertex>, Fault> {
    let (positions, []) = flat.as_chunks::<2>() else {
        let length = flat.len();
        return Err(Fault::Odd { ring, length });
    };
    if positions.len() < 4 {
        let positions = positions.len();
        return Err(Fault::Short { ring, positions });
    }
    let outside = |&[latitude, longitude]: &[i32; 2]| Position::new(latitude, longitude).is_none();
    if let Some(position) = positions.iter().position(outside) {
        return Err(Fault::Range { ring, position });
    }
    let (first, last) = (positions[0], positions[positions.len() - 1]);
    if first[0] != last[0] || (i64::from(first[1]) - i64::from(last[1])) % TURN != 0 {
        return Err(Fault::Open { ring });
    }
    let along_pole = |pair: &[[i32; 2]]| pair[0][0].abs() == POLE && pair[0][0] == pair[1][0];
    let mut steps: Vec<i64> = positions
        .windows(2)
        .map(|pair| {
            let step = i64::from(pair[1][1]) - i64::from(pair[0][1]);
            match step {
                _ if along_pole(pair) => step,
                _ if step > i64::from(HALF_TURN) => step - TURN,
                _ if step < -i64::from(HALF_TURN) => step + TURN,
                _ => step,
            }
        })
        .collect();
    let left: i64 = steps.iter().sum();
    if left != 0 {
        let edge = positions.windows(2).position(along_pole);
        steps[edge.ok_or(Fault::Pole { ring })?] -= left;
    }
    let mut x = i64::from(first[1]);
    let mut vertices = vec![(x, i64::from(first[0]))];
    for (step, position) in steps.iter().zip(&positions[1..]) {
        x += step;
        vertices.push((x, i64::from(position[0])));
    }
    let (west, east) = extent(vertices.iter().map(|vertex| vertex.0));
    if east - west > TURN {
        return Err(Fault::Span { ring });
    }
    let doubled: i128 = vertices
        .windows(2)
        .map(|pair| {
            let [(x1, y1), (x2, y2)] = [pair[0], pair[1]].map(|(x, y)| (x as i128, y as i128));
            x1 * y2 - x2 * y1
        })
        .sum();
    if doubled == 0 {
        return Err(Fault::Area { ring });
    }
    Ok(vertices)
}

/// Whether a vertex is inside a ring; nothing if it is on its border.
fn strictly_inside(ring: &[Vertex], (x, y): Vertex) -> Option<bool> {
    let mut inside = false;
    for pair in ring.windows(2) {
        let ((x1, y1), (x2, y2)) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
        let (edge, point) = ((y2 - y1) * (x - x1), (y - y1) * (x2 - x1));
        let within = (y1.min(y2)..=y1.max(y2)).contains(&y);
        if (x1..=x2).contains(&x) && within && edge == point {
            return None;
        }
        inside ^= x1 <= x && x < x2 && edge > point;
    }
    Some(inside)
}

fn extent(values: impl Iterator<Item = i64>) -> (i64, i64) {
    values.fold((i64::MAX, i64::MIN), |(least, most), value| {
        (least.min(value), most.max(value))
    })
}

/// The same longitude, from -180 degrees to less than 180.
fn normal(longitude: i64) -> i64 {
    let half = i64::from(HALF_TURN);
    (longitude + half).rem_euclid(TURN) - half
}

fn shift(ring: &mut [Vertex], by: i64) {
    ring.iter_mut().for_each(|vertex| vertex.0 += by);
}
