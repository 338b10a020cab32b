/** A city as it is now: its figures, its last rounds, and what it is made of. */

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api } from "../api";
import { Graph } from "../dag/graph";
import { NODES_MAX } from "../dag/window";
import { language, number } from "../language";
import { LiveCity } from "../live";
import { useLoad } from "../load";
import { RegionMap } from "../map/region-map";
import { cityTitle } from "../parts/city-head";
import { Facts } from "../parts/facts";
import { WholeId } from "../parts/id";
import { RoundsTable } from "../parts/rounds-table";
import { Spark } from "../parts/spark";
import { Trouble } from "../parts/trouble";
import type { Params } from "../router";
import { link } from "../router";
import { liveWords } from "../words/live";

const TABLE_ROWS = 8;
/** A screen reader hears of the city's course at most so often. */
const SUMMARY_MS = 15_000;

export const title = ({ city = "" }: Params) => liveWords().title(city);

export default function LiveView({ params: { city = "" } }: { params: Params }) {
  const live = useMemo(() => new LiveCity(city), [city]);
  useEffect(() => () => live.close(), [live]);
  const [paused, setPaused] = useState(false);
  const w = liveWords();
  live.turn.value;
  const connection = live.connection.value;
  const trouble = live.trouble.value;
  const largest = Math.max(0, ...live.window.rounds.map((told) => told.of));
  const latest = live.window.rounds
    .slice(-TABLE_ROWS)
    .map((told) => told.round)
    .reverse();
  const approved = live.head.value?.approved_round ?? 0;
  return (
    <>
      <div class="view-head">
        <h1 class="unseen">{w.heading}</h1>
        <p class={`connection ${connection}`} role="status">
          <span class="dot" aria-hidden="true" />
          {paused && connection === "open" ? w.paused : w[connection]}
        </p>
        <button type="button" aria-pressed={paused} onClick={() => setPaused(!paused)}>
          {paused ? w.resume : w.pause}
        </button>
      </div>
      {trouble !== null && <Trouble error={new Error(trouble)} />}
      <Figures live={live} />
      {live.skipped.value > 0 && <p class="quiet">{w.skipped(number(live.skipped.value))}</p>}
      {latest.length === 0 && connection === "open" && <p class="empty">{w.quiet}</p>}
      <Graph city={city} live={live} paused={paused} />
      {largest > NODES_MAX && <p class="quiet">{w.of(number(NODES_MAX), number(largest))}</p>}
      <Summary live={live} />
      <section>
        <h2>{w.latest}</h2>
        <Still paused={paused} value={{ latest, approved }}>
          {(held) => (
            <RoundsTable
              city={city}
              rounds={held.latest}
              approvedRound={held.approved}
              caption={w.latest}
            />
          )}
        </Still>
      </section>
      <About city={city} />
    </>
  );
}

/** What is shown of a value, which stands still while the view is paused. */
function Still<T>(props: { paused: boolean; value: T; children: (held: T) => ComponentChildren }) {
  const held = useRef(props.value);
  if (!props.paused) held.current = props.value;
  return <>{props.children(held.current)}</>;
}

function Figures({ live }: { live: LiveCity }) {
  const w = liveWords();
  const head = live.head.value;
  const rates = live.rates.value;
  const latencies = live.latencies.value;
  const rate = rates.at(-1);
  const latency = latencies.at(-1);
  const shown = (value: number | null | undefined) => (value == null ? "–" : number(value));
  return (
    <dl class="figures">
      <div>
        <dt>{w.sealedRound}</dt>
        <dd>{shown(head?.sealed_round)}</dd>
      </div>
      <div>
        <dt>{w.approvedRound}</dt>
        <dd>{shown(head?.approved_round)}</dd>
      </div>
      <div>
        <dt>{w.transactions}</dt>
        <dd>{shown(head?.size)}</dd>
      </div>
      <div>
        <dt>{w.waiting}</dt>
        <dd>{shown(live.pending.value)}</dd>
      </div>
      <div class="course">
        <dt>{w.rate}</dt>
        <dd>
          {rate === undefined ? "–" : number(Number(rate.toFixed(rate < 10 ? 1 : 0)))}
          <Spark values={rates} tone="tone-rate" />
        </dd>
      </div>
      <div class="course">
        <dt>{w.latency}</dt>
        <dd>
          {latency === undefined ? "–" : span(latency)}
          <Spark values={latencies} tone="tone-latency" />
        </dd>
      </div>
    </dl>
  );
}

/** A span of time, in a unit that suits it. */
function span(seconds: number): string {
  const w = liveWords();
  return seconds < 1 ? w.millis(number(Math.round(seconds * 1000))) : w.seconds(seconds.toFixed(1));
}

/** For screen readers: now and then, where the city stands. */
function Summary({ live }: { live: LiveCity }) {
  const [text, setText] = useState("");
  useEffect(() => {
    const timer = setInterval(() => {
      const head = live.head.peek();
      const rate = live.rates.peek().at(-1);
      if (head && rate !== undefined)
        setText(liveWords().summary(number(head.sealed_round), number(Math.round(rate))));
    }, SUMMARY_MS);
    return () => clearInterval(timer);
  }, [live]);
  return (
    <p class="unseen" aria-live="polite">
      {text}
    </p>
  );
}

function About({ city }: { city: string }) {
  const w = liveWords();
  const { value, error, again } = useLoad((signal) => api.city(city, signal), city);
  if (error) return <Trouble error={error} again={again} />;
  if (value === null) return null;
  return (
    <section class={value.regions?.features.length ? "about with-map" : "about"}>
      <div>
        <h2>{w.about}</h2>
        <Facts
          facts={[
            [w.rule, <code key="rule">{value.rule}</code>],
            [w.consensus, <code key="consensus">{value.consensus}</code>],
            [w.genesis, <WholeId key="genesis" value={value.genesis} />],
            [w.parent, value.parent && <a href={link("city", value.parent)}>{value.parent}</a>],
            [w.aliases, value.aliases.join(language.value === "ja" ? "、" : ", ")],
            [w.archived, value.archived_round ? number(value.archived_round) : null],
          ]}
        />
      </div>
      {value.regions && value.regions.features.length > 0 && (
        <RegionMap
          regions={[
            { city, title: cityTitle(value, language.value), features: value.regions.features },
          ]}
          label={w.regionOf(cityTitle(value, language.value))}
        />
      )}
    </section>
  );
}
