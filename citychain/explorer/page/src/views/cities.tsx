/** All cities of the server, found by any of their names. */

import { useMemo, useRef, useState } from "preact/hooks";
import { api, type City, type CityDetails } from "../api";
import { type Language, language, number } from "../language";
import { useLoad } from "../load";
import { type CityRegion, RegionMap } from "../map/region-map";
import { cityTitle } from "../parts/city-head";
import { Trouble } from "../parts/trouble";
import { link } from "../router";
import { citiesWords } from "../words/cities";
import { shellWords } from "../words/shell";

/** Cities that are listed at first, and with each "More". */
const PAGE = 100;
const LISTED_MAX = 1_000;
/** Cities of which the map asks for their region, so many at a time. */
const MAPPED_MAX = 200;
const AT_ONCE = 6;

export const title = () => citiesWords().title;

export default function Cities() {
  const w = citiesWords();
  const shell = shellWords();
  const [query, setQuery] = useState("");
  const [wanted, setWanted] = useState(PAGE);
  const { value, error, busy, again } = useLoad(
    (signal) => list(query, wanted, signal),
    `${wanted} ${query}`,
  );
  return (
    <>
      <h1>{w.title}</h1>
      <label class="field">
        <span>{w.find}</span>
        <input
          type="search"
          maxLength={100}
          placeholder={w.findHint}
          value={query}
          onInput={(event) => {
            setQuery(event.currentTarget.value);
            setWanted(PAGE);
          }}
        />
      </label>
      <CitiesMap cities={value?.cities ?? []} />
      {error && <Trouble error={error} again={again} />}
      {!error && value === null && <p class="empty">{shell.loading}</p>}
      {value?.cities.length === 0 && <p class="empty">{w.none}</p>}
      <ul class="cities">
        {value?.cities.map((city) => (
          <li key={city.slug}>
            <CityCard city={city} tongue={language.value} />
          </li>
        ))}
      </ul>
      {value?.more &&
        (value.cities.length < LISTED_MAX ? (
          <div class="pages">
            <button type="button" disabled={busy} onClick={() => setWanted(wanted + PAGE)}>
              {shell.more}
            </button>
          </div>
        ) : (
          <p class="quiet">{w.listed(number(value.cities.length))}</p>
        ))}
    </>
  );
}

/** At least so many cities, if there are, in as many answers at most; and whether there are more. */
async function list(query: string, wanted: number, signal: AbortSignal) {
  const cities: City[] = [];
  let page: string | undefined;
  for (let answers = 0; answers < wanted && cities.length < wanted; answers++) {
    const found = await api.cities(query, page, signal);
    cities.push(...found.cities);
    page = found.next_page_token || undefined;
    if (page === undefined) break;
  }
  return { cities, more: page !== undefined };
}

function CityCard({ city, tongue }: { city: City; tongue: Language }) {
  const title = cityTitle(city, tongue);
  return (
    <a class="card" href={link("city", city.slug)}>
      <strong>{title}</strong>
      <span class="quiet">
        {city.slug}
        {city.parent && ` · ${citiesWords().within(city.parent)}`}
      </span>
    </a>
  );
}

/** Where those cities are that are open and say so; asking one that is not would open it. */
function CitiesMap({ cities }: { cities: City[] }) {
  const open = cities.filter(({ state }) => state === "open");
  const mapped = open.slice(0, MAPPED_MAX).map(({ slug }) => slug);
  const known = useRef(new Map<string, CityDetails>()).current;
  const { value } = useLoad(async (signal) => {
    const unknown = mapped.filter((slug) => !known.has(slug));
    for (let at = 0; at < unknown.length; at += AT_ONCE) {
      const part = unknown.slice(at, at + AT_ONCE).map((slug) => api.city(slug, signal));
      for (const each of await Promise.allSettled(part))
        if (each.status === "fulfilled") known.set(each.value.slug, each.value);
    }
    return mapped.flatMap((slug) => known.get(slug) ?? []);
  }, mapped.join(" "));
  const tongue = language.value;
  // biome-ignore lint/correctness/useExhaustiveDependencies: titles are in the language of the page.
  const regions = useMemo<CityRegion[]>(
    () =>
      (value ?? []).flatMap((city) =>
        city.regions?.features.length
          ? [{ city: city.slug, title: cityTitle(city, tongue), features: city.regions.features }]
          : [],
      ),
    [value, tongue],
  );
  if (regions.length === 0) return null;
  return (
    <>
      <RegionMap regions={regions} label={citiesWords().map} />
      {open.length > MAPPED_MAX && <p class="quiet">{citiesWords().mapped(number(MAPPED_MAX))}</p>}
    </>
  );
}
