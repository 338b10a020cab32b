/**
 * Paints the graph round by round on one canvas.
 *
 * A new round moves what is there one column to the left and paints its own column; nothing else
 * is painted again, however much is shown. The move itself is an animation of the canvas as a
 * whole, which needs no script. So a frame costs the same at one transaction a second and at
 * thousands.
 */

import { decided } from "../api";
import { COLUMN, type Grid, grid, nearest, spot } from "./layout";
import { parentsOf, type RoundWindow, type Spot, type ToldRound } from "./window";

/** Heights, in CSS pixels: bars of the rounds' sizes above, their numbers below. */
const BARS = 52;
const NUMBERS = 26;
const GLIDE_MS = 320;

interface Colours {
  ink: string;
  quiet: string;
  line: string;
  paper: string;
  sealed: string;
  approved: string;
  rejected: string;
}

export class Painter {
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  readonly #window: RoundWindow;
  #colours: Colours;
  #width = 0;
  #height = 0;
  #newest = 0;
  #approved = 0;
  #most = 1;
  /** Whether new rounds glide in. */
  glides = true;

  constructor(canvas: HTMLCanvasElement, window: RoundWindow) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d") as CanvasRenderingContext2D;
    this.#window = window;
    this.#colours = colours(canvas);
  }

  /** Takes the place that the canvas has, and the colours of the page. */
  fit(width: number, height: number): void {
    const scale = Math.min(devicePixelRatio, 2);
    this.#width = width;
    this.#height = height;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    this.#context.setTransform(scale, 0, 0, scale, 0, 0);
    this.#colours = colours(this.#canvas);
    this.repaint();
  }

  /** Brings the picture up to what the window holds. */
  update(approved: number): void {
    const { rounds } = this.#window;
    const fresh = rounds.filter(({ round }) => round.round > this.#newest);
    const newest = rounds.at(-1)?.round.round ?? 0;
    const columns = Math.ceil(this.#width / COLUMN);
    const most = Math.max(1, ...rounds.map(({ round }) => decided(round)));
    // Bars have one scale; it changes in steps, since each change paints all anew.
    const scaleHolds = most <= this.#most && most * 4 > this.#most;
    if (newest < this.#newest || fresh.length >= columns || !scaleHolds) {
      this.#approved = approved;
      this.repaint();
      return;
    }
    if (fresh.length > 0) {
      this.#shift(fresh.length * COLUMN);
      this.#newest = newest;
      for (const told of fresh) this.#paintRound(told, approved);
    }
    if (approved !== this.#approved) {
      for (const told of rounds)
        if (told.round.round > this.#approved && told.round.round <= approved)
          this.#paintNodes(told, approved);
      this.#approved = approved;
    }
  }

  /** Paints all that is held and fits. */
  repaint(): void {
    const { rounds } = this.#window;
    this.#context.clearRect(0, 0, this.#width, this.#height);
    this.#newest = rounds.at(-1)?.round.round ?? 0;
    this.#most = Math.max(8, ...rounds.map(({ round }) => decided(round))) * 1.25;
    const columns = Math.ceil(this.#width / COLUMN) + 1;
    for (const told of rounds.slice(-columns)) this.#paintRound(told, this.#approved);
  }

  /** Where a node stands on the canvas; null where it is not drawn. */
  at({ round, seq }: Spot): { x: number; y: number; radius: number } | null {
    const told = this.#window.rounds[this.#window.column(round)];
    const middle = this.#middle(round);
    if (!told || middle === null || seq >= told.nodes.length) return null;
    const shape = this.#grid(told);
    const { x, y } = spot(shape, seq);
    return { x: middle + x, y: this.#centre() + y, radius: shape.radius };
  }

  /** The node at a point of the canvas; null where none is. */
  pick(x: number, y: number): Spot | null {
    const { rounds } = this.#window;
    const told = rounds[rounds.length - 1 - Math.floor((this.#width - x) / COLUMN)];
    if (!told) return null;
    const middle = this.#middle(told.round.round) as number;
    const seq = nearest(this.#grid(told), x - middle, y - this.#centre());
    return seq === null ? null : { round: told.round.round, seq };
  }

  #centre(): number {
    return BARS + (this.#height - BARS - NUMBERS) / 2;
  }

  #grid(told: ToldRound): Grid {
    return grid(told.nodes.length, this.#height - BARS - NUMBERS - 16);
  }

  /** The middle of a round's column; null where it is not held. */
  #middle(round: number): number | null {
    const column = this.#window.column(round);
    if (column < 0) return null;
    return this.#width - (this.#window.rounds.length - 1 - column + 0.5) * COLUMN;
  }

  #shift(by: number): void {
    const context = this.#context;
    context.save();
    context.globalCompositeOperation = "copy";
    context.drawImage(this.#canvas, -by, 0, this.#width, this.#height);
    context.restore();
    if (!this.glides) return;
    this.#canvas.animate([{ transform: `translateX(${by}px)` }, { transform: "none" }], {
      duration: GLIDE_MS,
      easing: "cubic-bezier(0.2, 0.7, 0.2, 1)",
    });
  }

  #paintRound(told: ToldRound, approved: number): void {
    const middle = this.#middle(told.round.round);
    if (middle === null) return;
    const { round } = told;
    const context = this.#context;
    const { line, quiet, rejected, ink } = this.#colours;

    const all = decided(round);
    const height = all && Math.max(2, (all / this.#most) * (BARS - 10));
    const lost = all && (round.rejected / all) * height;
    context.fillStyle = quiet;
    context.globalAlpha = 0.35;
    context.fillRect(middle - 10, BARS - height, 20, height - lost);
    context.globalAlpha = 1;
    context.fillStyle = rejected;
    if (lost > 0)
      context.fillRect(middle - 10, BARS - Math.max(lost, 1.5), 20, Math.max(lost, 1.5));
    context.fillStyle = line;
    context.fillRect(middle - COLUMN / 2, BARS, COLUMN, 1);
    context.fillRect(middle - COLUMN / 2, this.#height - NUMBERS, COLUMN, 1);
    if (round.round % 2 === 0) {
      context.fillStyle = quiet;
      context.font = `12px ${getComputedStyle(this.#canvas).fontFamily}`;
      context.textAlign = "center";
      context.fillText(String(round.round), middle, this.#height - 8);
    }

    this.#paintNodes(told, approved);

    // Lines come under what is painted already, so marks stay clear.
    context.save();
    context.globalCompositeOperation = "destination-over";
    context.strokeStyle = ink;
    const count = told.nodes.length;
    context.globalAlpha = Math.max(0.06, 0.3 - count / 1000);
    context.lineWidth = count > 60 ? 0.6 : 1;
    context.beginPath();
    for (let seq = 0; seq < count; seq++) {
      const from = this.at({ round: round.round, seq });
      if (!from) continue;
      for (const parent of parentsOf(told, seq)) {
        const to = this.at(parent);
        if (!to) continue;
        const bend = (from.x - to.x) / 2;
        context.moveTo(from.x, from.y);
        context.bezierCurveTo(from.x - bend, from.y, to.x + bend, to.y, to.x, to.y);
      }
    }
    context.stroke();
    context.restore();
  }

  #paintNodes(told: ToldRound, approved: number): void {
    const middle = this.#middle(told.round.round);
    if (middle === null) return;
    const shape = this.#grid(told);
    const { radius } = shape;
    const centre = this.#centre();
    const good = new Path2D();
    const bad = new Path2D();
    for (let seq = 0; seq < told.nodes.length; seq++) {
      const { x, y } = spot(shape, seq);
      const [left, top] = [middle + x, centre + y];
      if (told.codes[seq] !== undefined) {
        const reach = radius * 0.8;
        bad.moveTo(left - reach, top - reach);
        bad.lineTo(left + reach, top + reach);
        bad.moveTo(left + reach, top - reach);
        bad.lineTo(left - reach, top + reach);
      } else if (radius < 2.4) {
        good.rect(left - radius, top - radius, radius * 2, radius * 2);
      } else {
        good.moveTo(left + radius, top);
        good.arc(left, top, radius, 0, Math.PI * 2);
      }
    }
    const context = this.#context;
    const colour = this.#colours;
    if (told.round.round <= approved) {
      context.fillStyle = colour.approved;
      context.fill(good);
      context.lineWidth = 1.4;
      context.strokeStyle = colour.approved;
    } else {
      context.fillStyle = colour.paper;
      context.fill(good);
      context.lineWidth = radius < 2.4 ? 0.8 : 1.4;
      context.strokeStyle = colour.sealed;
    }
    if (radius >= 2.4 || told.round.round > approved) context.stroke(good);
    context.lineWidth = Math.max(1, radius * 0.45);
    context.strokeStyle = colour.rejected;
    context.stroke(bad);
  }
}

/** The colours of the style sheet, as they stand for this element. */
function colours(element: Element): Colours {
  const style = getComputedStyle(element);
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: of("ink"),
    quiet: of("ink-2"),
    line: of("line"),
    paper: of("raised"),
    sealed: of("sealed"),
    approved: of("approved"),
    rejected: of("rejected"),
  };
}
