//! Polygons, prepared for asking whether a point is inside.

use super::{POLE, Polygon, Position, TURN};

/// Edges a polygon may be copied to slabs for, per edge of its own.
const COPIES_MAX: u64 = 6;

/// An edge with `x1 < x2`, counted from its polygon's west; those along a meridian cross nothing.
#[derive(Clone, Copy)]
struct Edge {
    x1: u32,
    x2: u32,
    y1: i32,
    y2: i32,
}

/// A polygon, cut into slabs of `1 << shift` units of longitude.
struct Outline {
    west: i32,
    span: u32,
    south: i32,
    north: i32,
    shift: u32,
    /// Its first slab: where its edges begin; the next entry says where they end.
    slab: u32,
}

/// Any number of polygons. Their edges stand together, those of a slab in a row.
#[derive(Default)]
pub struct Outlines {
    outlines: Vec<Outline>,
    slabs: Vec<u32>,
    edges: Vec<Edge>,
}

impl Outlines {
    /// Adds a polygon; returns its index.
    pub fn push(&mut self, polygon: &Polygon) -> u32 {
        let bounds = polygon.bounds;
        let edges: Vec<Edge> = polygon
            .edges()
            .map(|(one, other)| (one.min(other), one.max(other)))
            .filter(|(west, east)| west.0 < east.0)
            .map(|(west, east)| Edge {
                x1: (west.0 - bounds.west) as u32,
                x2: (east.0 - bounds.west) as u32,
                y1: west.1 as i32,
                y2: east.1 as i32,
            })
            .collect();
        let span = bounds.span as u32;
        let shift = slab_shift(&edges, span);
        let outline = Outline {
            west: bounds.west as i32,
            span,
            south: bounds.south as i32,
            north: bounds.north as i32,
            shift,
            slab: self.slabs.len() as u32,
        };
        self.fill(&edges, shift, (span >> shift) as usize + 1);
        self.outlines.push(outline);
        self.outlines.len() as u32 - 1
    }

    /// Sorts copies of edges into slabs, by counting.
    fn fill(&mut self, edges: &[Edge], shift: u32, count: usize) {
        let mut ends = vec![0_u32; count + 1];
        for slab in edges.iter().flat_map(|edge| slabs_of(edge, shift)) {
            ends[slab + 1] += 1;
        }
        let mut end = self.edges.len() as u32;
        for slab in &mut ends {
            end += *slab;
            *slab = end;
        }
        self.slabs.extend_from_slice(&ends);
        let nothing = Edge {
            x1: 0,
            x2: 0,
            y1: 0,
            y2: 0,
        };
        self.edges.resize(end as usize, nothing);
        for edge in edges {
            for slab in slabs_of(edge, shift) {
                self.edges[ends[slab] as usize] = *edge;
                ends[slab] += 1;
            }
        }
    }

    /// Whether the point is inside, by the rule of the module above.
    #[inline]
    pub fn contains(&self, outline: u32, point: Position) -> bool {
        let outline = &self.outlines[outline as usize];
        let mut x = i64::from(point.longitude) - i64::from(outline.west);
        if x < 0 {
            x += TURN;
        }
        let y = i64::from(point.latitude);
        let is_top = point.latitude == POLE;
        let heights = outline.south..=outline.north;
        if x >= i64::from(outline.span) || !heights.contains(&point.latitude) {
            return false;
        }
        let slab = outline.slab as usize + (x >> outline.shift) as usize;
        let edges = &self.edges[self.slabs[slab] as usize..self.slabs[slab + 1] as usize];
        let crossed = |edge: &&Edge| {
            let (edge_height, point_height) = edge.compare(x, y);
            edge.has(x) & ((edge_height > point_height) | (edge_height == point_height) & is_top)
        };
        edges.iter().filter(crossed).count() % 2 == 1
    }
}

impl Edge {
    #[inline]
    fn has(&self, x: i64) -> bool {
        (i64::from(self.x1) <= x) & (x < i64::from(self.x2))
    }

    /// The edge's height at `x` and the point's, both above `y1` and times the edge's width.
    ///
    /// A width has 32 bits and a height 31, so that each product fits 63.
    #[inline]
    fn compare(&self, x: i64, y: i64) -> (i64, i64) {
        let (x1, x2) = (i64::from(self.x1), i64::from(self.x2));
        let (y1, y2) = (i64::from(self.y1), i64::from(self.y2));
        ((y2 - y1) * (x - x1), (y - y1) * (x2 - x1))
    }
}

fn slabs_of(edge: &Edge, shift: u32) -> std::ops::RangeInclusive<usize> {
    (edge.x1 >> shift) as usize..=((edge.x2 - 1) >> shift) as usize
}

/// About as many slabs as edges; fewer if long edges would be copied too often.
fn slab_shift(edges: &[Edge], span: u32) -> u32 {
    let count = edges.len().max(1) as u64;
    let mut shift = 0;
    while u64::from(span >> shift) > count {
        shift += 1;
    }
    let copies = |shift| -> u64 {
        let of = |edge: &Edge| u64::from((edge.x2 - 1) >> shift) - u64::from(edge.x1 >> shift) + 1;
        edges.iter().map(of).sum()
    };
    while copies(shift) > COPIES_MAX * count && shift < 31 {
        shift += 1;
    }
    shift
}
