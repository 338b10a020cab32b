//! Which region a point lies in, decided in integers.
//!
//! A position is a latitude and a longitude in units of 1e-7 degree (WGS 84): `i32`, latitude from
//! -900,000,000 to 900,000,000, longitude from -1,800,000,000 to 1,800,000,000. A ring is a flat
//! list `[latitude, longitude, latitude, longitude, ...]` whose last position is its first again.
//! A polygon is a shell and any number of holes; a region is a union of polygons, or a disc.
//!
//! # Edges
//! An edge is a straight line in the plane with longitude as x and latitude as y. Of the ways round
//! the earth it takes the shorter: one whose longitudes differ by more than 180 degrees crosses the
//! antimeridian. An edge along a pole (both latitudes are that pole's) goes nowhere, and its
//! longitudes are taken as they stand; where the longitudes of a ring, added up along its edges, do
//! not come back to their beginning, its first edge along a pole takes the difference. A ring that
//! goes round a pole and has no such edge is refused.
//!
//! # Inside
//! A point is inside a ring if a line from it to the north crosses the ring's edges an odd number
//! of times, where the point is understood as moved north by an infinitesimal distance, and then
//! east by one that is infinitesimal against the first. So the edge from (x1, y1) to (x2, y2),
//! x1 < x2, is crossed by the line from (x, y) if and only if
//!
//! ```text
//! x1 <= x < x2  and  (y2 - y1) * (x - x1) > (y - y1) * (x2 - x1)
//! ```
//!
//! and an edge along a meridian (x1 = x2) is never crossed. No point is on a border then: of
//! regions that share an edge or a vertex, and leave no gap, exactly one has each point of it.
//! Longitudes are compared on a circle: 180 and -180 degrees are one. A point at a pole has
//! longitude 0 whatever it says; the North Pole is understood as moved south, not north, which
//! makes the `>` above `>=`.
//!
//! A point is inside a polygon if the number of its rings that it is inside of is odd: inside its
//! shell and no hole. Of several regions the one with the smallest index has the point.
//!
//! # Discs
//! See [`sphere`].

mod crossings;
mod fault;
pub mod geojson;
mod grid;
mod outlines;
mod rings;
pub mod sphere;

use grid::Grid;
use outlines::Outlines;
use sphere::Cap;

pub use fault::{Error, Fault};
pub use rings::{Bounds, Polygon};
pub use sphere::chord_squared;

/// Units of 90 degrees: the latitude of a pole.
pub const POLE: i32 = 900_000_000;
/// Units of 180 degrees.
pub const HALF_TURN: i32 = 1_800_000_000;
/// Units of 360 degrees.
pub const TURN: i64 = 3_600_000_000;

/// A position on the earth, in units of 1e-7 degree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub latitude: i32,
    pub longitude: i32,
}

impl Position {
    /// The one way to write this point: no longitude of 180 degrees, and 0 at a pole.
    ///
    /// Returns nothing if there is no such position.
    pub fn new(latitude: i32, longitude: i32) -> Option<Self> {
        if !(-POLE..=POLE).contains(&latitude) || !(-HALF_TURN..=HALF_TURN).contains(&longitude) {
            return None;
        }
        let longitude = match longitude {
            _ if latitude.abs() == POLE => 0,
            HALF_TURN => -HALF_TURN,
            _ => longitude,
        };
        Some(Self {
            latitude,
            longitude,
        })
    }
}

/// What a region is made of.
pub enum Region {
    Disc { centre: Position, radius_m: u32 },
    Polygons(Vec<Polygon>),
}

/// One polygon of a region, or its disc.
#[derive(Clone, Copy)]
enum Shape {
    Outline(u32),
    Cap(u32),
}

/// Regions, indexed for look-ups.
pub struct Places {
    outlines: Outlines,
    caps: Vec<Cap>,
    shapes: Vec<Shape>,
    /// The region of each shape; shapes of a region stand together, in the regions' order.
    owners: Vec<u32>,
    regions: usize,
    grid: Grid,
    /// Answers at the South and the North Pole, which the grid does not know.
    poles: [Option<u32>; 2],
}

impl Places {
    pub fn new(regions: &[Region]) -> Self {
        let mut places = Self {
            outlines: Outlines::default(),
            caps: Vec::new(),
            shapes: Vec::new(),
            owners: Vec::new(),
            regions: regions.len(),
            grid: Grid::default(),
            poles: [None; 2],
        };
        let mut builder = grid::Builder::default();
        for (index, region) in regions.iter().enumerate() {
            let owner = u32::try_from(index).expect("regions are fewer than 2^31");
            match region {
                Region::Disc { centre, radius_m } => {
                    let cap = Cap::new(*centre, *radius_m);
                    builder.disc(cap.bounds());
                    places.push(Shape::Cap(places.caps.len() as u32), owner);
                    places.caps.push(cap);
                }
                Region::Polygons(polygons) => {
                    for polygon in polygons {
                        builder.polygon(polygon);
                        let outline = places.outlines.push(polygon);
                        places.push(Shape::Outline(outline), owner);
                    }
                }
            }
        }
        places.grid = builder.build(&places);
        places.poles = [-POLE, POLE].map(|latitude| {
            let pole = Position::new(latitude, 0).expect("it exists");
            let shape = (0..places.shapes.len() as u32).find(|&it| places.is_in_shape(it, pole));
            shape.map(|it| places.owners[it as usize])
        });
        places
    }

    fn push(&mut self, shape: Shape, owner: u32) {
        self.shapes.push(shape);
        self.owners.push(owner);
    }

    /// Number of regions.
    pub fn len(&self) -> usize {
        self.regions
    }

    pub fn is_empty(&self) -> bool {
        self.regions == 0
    }

    /// The smallest index of a region that the point lies in.
    pub fn locate(&self, point: Position) -> Option<u32> {
        if point.latitude.abs() == POLE {
            return self.poles[usize::from(point.latitude > 0)];
        }
        self.grid.locate(self, point)
    }

    /// Whether a region has the point, whatever other regions do.
    pub fn contains(&self, region: u32, point: Position) -> bool {
        let begin = self.owners.partition_point(|&owner| owner < region);
        let end = self.owners.partition_point(|&owner| owner <= region);
        (begin..end).any(|shape| self.is_in_shape(shape as u32, point))
    }

    #[inline]
    fn is_in_shape(&self, shape: u32, point: Position) -> bool {
        match self.shapes[shape as usize] {
            Shape::Outline(outline) => self.outlines.contains(outline, point),
            Shape::Cap(cap) => self.caps[cap as usize].contains(point),
        }
    }
}

#[cfg(test)]
mod tests;
