//! A uniform grid over the regions: most points are answered by one look into one cell.

use super::rings::Bounds;
use super::{Places, Polygon, Position, TURN};

/// No more cells than this, 4 bytes each.
const CELLS_MAX: u64 = 1 << 23;
/// An edge, and a disc, is worth so many cells.
const CELLS_PER_EDGE: u64 = 32;
const CELLS_PER_DISC: u64 = 256;
/// Cells that an edge, and a disc, may lie in on average.
const ENTRIES_PER_EDGE: u64 = 4;
const ENTRIES_PER_DISC: u64 = 64;

/// In a cell: the rest is where in `lists` it begins. In a list: the rest is the answer if no shape
/// before it has the point. An answer is 0 for no region, else its index plus 1.
const FLAG: u32 = 1 << 31;

/// Cells of `1 << shift` units each way, from `west` eastwards and `south` northwards.
#[derive(Default)]
pub struct Grid {
    west: i64,
    south: i64,
    shift: u32,
    columns: u64,
    rows: u64,
    cells: Vec<u32>,
    lists: Vec<u32>,
}

impl Grid {
    #[inline]
    pub fn locate(&self, places: &Places, point: Position) -> Option<u32> {
        let mut x = i64::from(point.longitude) - self.west;
        if x < 0 {
            x += TURN;
        }
        let y = i64::from(point.latitude) - self.south;
        // A latitude south of the grid becomes a row that is too large.
        let (column, row) = ((x as u64) >> self.shift, (y as u64) >> self.shift);
        if column >= self.columns || row >= self.rows {
            return None;
        }
        let cell = self.cells[(row * self.columns + column) as usize];
        if cell & FLAG == 0 {
            return cell.checked_sub(1);
        }
        let mut at = (cell & !FLAG) as usize;
        loop {
            let entry = self.lists[at];
            if entry & FLAG != 0 {
                return (entry & !FLAG).checked_sub(1);
            }
            if places.is_in_shape(entry, point) {
                return Some(places.owners[entry as usize]);
            }
            at += 1;
        }
    }
}

/// Gathers the shapes in order, then makes the grid.
#[derive(Default)]
pub struct Builder<'a> {
    shapes: Vec<Outer<'a>>,
}

enum Outer<'a> {
    Polygon(&'a Polygon),
    Disc(Bounds),
}

impl Outer<'_> {
    fn bounds(&self) -> Bounds {
        match self {
            Self::Polygon(polygon) => polygon.bounds,
            Self::Disc(bounds) => *bounds,
        }
    }
}

impl<'a> Builder<'a> {
    pub fn polygon(&mut self, polygon: &'a Polygon) {
        self.shapes.push(Outer::Polygon(polygon));
    }

    pub fn disc(&mut self, bounds: Bounds) {
        self.shapes.push(Outer::Disc(bounds));
    }

    pub fn build(self, places: &Places) -> Grid {
        if self.shapes.is_empty() {
            return Grid::default();
        }
        let boxes: Vec<Bounds> = self.shapes.iter().map(Outer::bounds).collect();
        let (west, width) = around(&boxes);
        let south = boxes.iter().map(|it| it.south).min().unwrap_or(0);
        let north = boxes.iter().map(|it| it.north).max().unwrap_or(0);
        let shift = self.shift(width, north - south);
        let (columns, rows) = (size(width, shift), size(north - south, shift));
        let grid = Grid {
            west,
            south,
            shift,
            columns,
            rows,
            cells: vec![0; (columns * rows) as usize],
            lists: Vec::new(),
        };
        let mut filling = Filling {
            grid,
            entries: Vec::new(),
        };
        for (shape, outer) in self.shapes.iter().enumerate() {
            let offset = (outer.bounds().west - west).rem_euclid(TURN);
            // What reaches round the earth to where the grid began is drawn there as well.
            for offset in [offset, offset - TURN] {
                if offset + outer.bounds().span >= 0 {
                    filling.draw(places, shape as u32, outer, offset);
                }
            }
        }
        filling.finish()
    }

    /// The finest grid within the bounds above.
    fn shift(&self, width: i64, height: i64) -> u32 {
        let is_disc = |it: &&Outer<'_>| matches!(it, Outer::Disc(_));
        let discs = self.shapes.iter().filter(is_disc).count() as u64;
        let edges: u64 = self.edges().count() as u64;
        let cells_max = (CELLS_PER_EDGE * edges + CELLS_PER_DISC * discs).min(CELLS_MAX);
        let entries_max = ENTRIES_PER_EDGE * edges + ENTRIES_PER_DISC * discs;
        let entries = |shift: u32| -> u64 {
            let lines = self.edges().map(|(a, b)| {
                let (x, y) = ((a.0 - b.0).unsigned_abs(), (a.1 - b.1).unsigned_abs());
                (x >> shift) + (y >> shift) + 1
            });
            let areas = self.shapes.iter().map(|shape| match shape {
                Outer::Polygon(_) => 0,
                Outer::Disc(it) => size(it.span, shift) * size(it.north - it.south, shift),
            });
            lines.sum::<u64>() + areas.sum::<u64>()
        };
        let mut shift = 8;
        while size(width, shift) * size(height, shift) > cells_max {
            shift += 1;
        }
        while shift < 31 && entries(shift) > entries_max {
            shift += 1;
        }
        shift
    }

    fn edges(&self) -> impl Iterator<Item = ((i64, i64), (i64, i64))> + '_ {
        self.shapes.iter().flat_map(|shape| {
            let polygon = match shape {
                Outer::Polygon(polygon) => Some(*polygon),
                Outer::Disc(_) => None,
            };
            polygon.into_iter().flat_map(Polygon::edges)
        })
    }
}

/// Cells of that shift that a length needs, wherever its ends lie in the first and the last.
fn size(length: i64, shift: u32) -> u64 {
    (length as u64 >> shift) + 1
}

/// The shortest stretch of longitudes with all boxes: its west, and its width.
pub(super) fn around(boxes: &[Bounds]) -> (i64, i64) {
    let mut boxes: Vec<(i64, i64)> = boxes.iter().map(|it| (it.west, it.span)).collect();
    boxes.sort_unstable();
    let mut west = boxes[0].0;
    let mut gap = 0;
    // The box that ends farthest east may go on where the first begins.
    let mut reach = boxes.iter().map(|it| it.0 + it.1).max().unwrap_or(0) - TURN;
    for (start, span) in boxes {
        if start - reach > gap {
            (gap, west) = (start - reach, start);
        }
        reach = reach.max(start + span);
    }
    (west, TURN - gap)
}

struct Filling {
    grid: Grid,
    /// A cell, and a shape that has a part of it; of one cell, in the shapes' order.
    entries: Vec<(u32, u32)>,
}

impl Filling {
    fn draw(&mut self, places: &Places, shape: u32, outer: &Outer<'_>, offset: i64) {
        let Bounds {
            west,
            span,
            south,
            north,
        } = outer.bounds();
        match outer {
            Outer::Disc(_) => {
                let (first, last) = (
                    offset >> self.grid.shift,
                    (offset + span) >> self.grid.shift,
                );
                for row in self.row(south)..=self.row(north) {
                    for column in first.max(0)..=last.min(self.grid.columns as i64 - 1) {
                        self.part(row, column, shape);
                    }
                }
            }
            Outer::Polygon(polygon) => {
                let mut touched = Vec::new();
                for edge in polygon.edges() {
                    self.trace(edge, offset - west, &mut touched);
                }
                touched.sort_unstable();
                touched.dedup();
                self.fill(places, shape, &touched);
            }
        }
    }

    fn row(&self, latitude: i64) -> i64 {
        (latitude - self.grid.south) >> self.grid.shift
    }

    /// Adds each cell, as (row, column), that has a part of the edge.
    fn trace(&self, edge: ((i64, i64), (i64, i64)), offset: i64, touched: &mut Vec<(i64, i64)>) {
        let shift = self.grid.shift;
        let place = |(x, y): (i64, i64)| (y - self.grid.south, x + offset);
        let (low, high) = {
            let (one, other) = (place(edge.0), place(edge.1));
            (one.min(other), one.max(other))
        };
        for row in low.0 >> shift..=high.0 >> shift {
            // The edge between the latitudes of this row.
            let at = |y: i64| match high.0 - low.0 {
                0 => None,
                height => Some(low.1 + ((high.1 - low.1) * (y - low.0)).div_euclid(height)),
            };
            let (y1, y2) = (low.0.max(row << shift), high.0.min((row + 1) << shift));
            let (x1, x2) = (at(y1).unwrap_or(low.1), at(y2).unwrap_or(high.1));
            for column in x1.min(x2) >> shift..=x1.max(x2) >> shift {
                touched.push((row, column));
            }
        }
    }

    /// Enters a polygon: in the cells that its edges touch, as a part; between them, which is
    /// inside or outside as a whole, as the answer.
    fn fill(&mut self, places: &Places, shape: u32, touched: &[(i64, i64)]) {
        let columns = self.grid.columns as i64;
        for (index, &(row, column)) in touched.iter().enumerate() {
            if (0..columns).contains(&column) {
                self.part(row, column, shape);
            }
            let next = touched.get(index + 1).filter(|next| next.0 == row);
            let (first, last) = ((column + 1).max(0), next.map_or(0, |it| it.1).min(columns));
            if first < last && places.is_in_shape(shape, self.corner(row, first)) {
                for column in first..last {
                    let cell = self.cell(row, column);
                    if self.grid.cells[cell as usize] == 0 {
                        self.grid.cells[cell as usize] = places.owners[shape as usize] + 1;
                    }
                }
            }
        }
    }

    /// The point of a cell that is farthest south and west.
    fn corner(&self, row: i64, column: i64) -> Position {
        let x = self.grid.west + (column << self.grid.shift);
        let half = i64::from(super::HALF_TURN);
        Position {
            latitude: (self.grid.south + (row << self.grid.shift)) as i32,
            longitude: ((x + half).rem_euclid(TURN) - half) as i32,
        }
    }

    fn cell(&self, row: i64, column: i64) -> u32 {
        (row as u64 * self.grid.columns + column as u64) as u32
    }

    fn part(&mut self, row: i64, column: i64, shape: u32) {
        let cell = self.cell(row, column);
        // Where an earlier region has the whole cell, no later one is asked.
        if self.grid.cells[cell as usize] == 0 {
            self.entries.push((cell, shape));
        }
    }

    fn finish(mut self) -> Grid {
        self.entries.sort_by_key(|entry| entry.0);
        // Drawn twice, a shape can stand twice in one cell.
        self.entries.dedup();
        for list in self.entries.chunk_by(|one, other| one.0 == other.0) {
            let cell = &mut self.grid.cells[list[0].0 as usize];
            let answer = std::mem::replace(cell, FLAG | self.grid.lists.len() as u32);
            self.grid.lists.extend(list.iter().map(|entry| entry.1));
            self.grid.lists.push(FLAG | answer);
        }
        self.grid
    }
}
