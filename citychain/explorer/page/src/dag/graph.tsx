/** The graph of the last rounds: seen, pointed at, or walked through by keys. */

import { effect } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { number } from "../language";
import type { LiveCity } from "../live";
import { go } from "../location";
import { link } from "../router";
import { theme } from "../theme";
import { liveWords } from "../words/live";
import { stateWords } from "../words/states";
import { COLUMN } from "./layout";
import { Painter } from "./painter";
import { parentsOf, type Spot } from "./window";

export function Graph({ city, live, paused }: { city: string; live: LiveCity; paused: boolean }) {
  const w = liveWords();
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const painter = useRef<Painter | null>(null);
  const [chosen, setChosen] = useState<Spot | null>(null);
  const [, setMoved] = useState(0);
  const still = useRef(paused);
  still.current = paused;

  useLayoutEffect(() => {
    const element = canvas.current as HTMLCanvasElement;
    const frame = box.current as HTMLDivElement;
    const made = new Painter(element, live.window);
    painter.current = made;
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    const fit = () => {
      made.glides = !calm.matches;
      made.fit(frame.clientWidth + COLUMN, frame.clientHeight);
    };
    const sizes = new ResizeObserver(fit);
    sizes.observe(frame);
    calm.addEventListener("change", fit);
    const stopTheme = effect(() => {
      theme.value;
      queueMicrotask(fit);
    });
    const stopTurns = effect(() => {
      live.turn.value;
      if (still.current) return;
      made.update(live.head.peek()?.approved_round ?? 0);
      setMoved((was) => was + 1);
    });
    return () => {
      sizes.disconnect();
      calm.removeEventListener("change", fit);
      stopTheme();
      stopTurns();
    };
  }, [live]);

  useEffect(() => {
    if (!paused) painter.current?.update(live.head.peek()?.approved_round ?? 0);
  }, [paused, live]);

  const told = chosen ? live.window.rounds[live.window.column(chosen.round)] : undefined;
  const at = chosen && painter.current?.at(chosen);
  const parents = chosen && told ? parentsOf(told, chosen.seq) : [];
  const open = (spot: Spot) => go(link("city", city, "node", spot.round, spot.seq));

  const step = (event: KeyboardEvent) => {
    // Read anew: a function that kept hold of the rounds would keep them alive.
    const { rounds } = live.window;
    const column = chosen ? live.window.column(chosen.round) : -1;
    const nextIn = (from: number, by: number) => {
      for (let at = from, told = rounds[at]; told; at += by, told = rounds[at])
        if (told.nodes.length > 0)
          return {
            round: told.round.round,
            seq: Math.min(chosen?.seq ?? 0, told.nodes.length - 1),
          };
      return chosen;
    };
    const count = rounds[column]?.nodes.length ?? 0;
    const newest = () => nextIn(rounds.length - 1, -1);
    if (event.key === "ArrowLeft") setChosen(column < 0 ? newest() : nextIn(column - 1, -1));
    else if (event.key === "ArrowRight") setChosen(column < 0 ? newest() : nextIn(column + 1, 1));
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const by = event.key === "ArrowDown" ? 1 : -1;
      if (!chosen || count === 0) setChosen(newest());
      else setChosen({ ...chosen, seq: (chosen.seq + by + count) % count });
    } else if (event.key === "Enter" && chosen) open(chosen);
    else if (event.key === "Escape") setChosen(null);
    else return;
    event.preventDefault();
  };

  const spotUnder = (event: MouseEvent) => {
    const place = (box.current as HTMLDivElement).getBoundingClientRect();
    return (
      painter.current?.pick(event.clientX - place.left + COLUMN, event.clientY - place.top) ?? null
    );
  };

  const state = told && chosen ? stateOf(live, told.codes[chosen.seq], chosen.round) : null;
  return (
    <figure class="graph">
      <div
        ref={box}
        class={`graph-box${chosen ? " pointing" : ""}`}
        role="application"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: arrow keys walk through the graph.
        tabIndex={0}
        aria-label={`${w.graph}. ${w.graphKeys}`}
        onKeyDown={step}
        onMouseMove={(event) => setChosen(spotUnder(event))}
        onMouseLeave={() => setChosen(null)}
        onBlur={() => setChosen(null)}
        onClick={(event) => {
          const spot = spotUnder(event);
          if (spot) open(spot);
        }}
      >
        <canvas ref={canvas} />
        <svg class="graph-over" aria-hidden="true">
          {at &&
            parents.map((parent) => {
              const to = painter.current?.at(parent);
              if (!to) return null;
              const bend = (at.x - to.x) / 2;
              return (
                <g key={`${parent.round}/${parent.seq}`}>
                  <path
                    d={`M${at.x} ${at.y}C${at.x - bend} ${at.y} ${to.x + bend} ${to.y} ${to.x} ${to.y}`}
                  />
                  <circle cx={to.x} cy={to.y} r={to.radius + 2.5} />
                </g>
              );
            })}
          {at && <circle class="chosen" cx={at.x} cy={at.y} r={at.radius + 4} />}
        </svg>
      </div>
      <figcaption class="quiet">
        <output aria-live="polite">
          {chosen && state
            ? w.node(
                number(chosen.round),
                number(chosen.seq),
                stateWords()[state],
                number(parents.length),
              )
            : w.graphNote}
        </output>
      </figcaption>
    </figure>
  );
}

function stateOf(live: LiveCity, code: string | undefined, round: number) {
  if (code !== undefined) return "rejected" as const;
  return round <= (live.head.value?.approved_round ?? 0)
    ? ("approved" as const)
    : ("sealed" as const);
}
