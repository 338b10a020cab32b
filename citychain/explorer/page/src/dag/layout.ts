/** Where the nodes of a round stand in its column. */

/** Width of a column, in CSS pixels. */
export const COLUMN = 48;
const SPACE_X = 38;
const PITCH_MAX = 17;

/** The grid of one round: filled from above, one file after the other. */
export interface Grid {
  /** From one node to the next, in CSS pixels. */
  pitch: number;
  radius: number;
  rows: number;
  files: number;
  count: number;
}

/** The largest grid of `count` nodes that fits in a column of this height. */
export function grid(count: number, height: number): Grid {
  let pitch = PITCH_MAX;
  const rows = () => Math.max(1, Math.floor(height / pitch));
  const files = () => Math.max(1, Math.floor(SPACE_X / pitch));
  while (pitch > 1 && rows() * files() < count) pitch -= 0.25;
  const used = Math.max(1, Math.ceil(count / rows()));
  // All files alike, so that a column that needs two is no full one and a rest.
  const each = Math.max(1, Math.ceil(count / used));
  return { pitch, radius: Math.min(5, pitch * 0.34), rows: each, files: used, count };
}

/** Where a node stands, from the middle of its column. */
export function spot(grid: Grid, seq: number): { x: number; y: number } {
  const file = Math.floor(seq / grid.rows);
  const row = seq % grid.rows;
  const inFile = Math.min(grid.rows, grid.count - file * grid.rows);
  return {
    x: (file - (grid.files - 1) / 2) * grid.pitch,
    y: (row - (inFile - 1) / 2) * grid.pitch,
  };
}

/** The node nearest to a point from the middle of the column; null where none is near. */
export function nearest(grid: Grid, x: number, y: number): number | null {
  const file = Math.round(x / grid.pitch + (grid.files - 1) / 2);
  if (file < 0 || file >= grid.files) return null;
  const inFile = Math.min(grid.rows, grid.count - file * grid.rows);
  const row = Math.round(y / grid.pitch + (inFile - 1) / 2);
  if (row < 0 || row >= inFile) return null;
  return file * grid.rows + row;
}
