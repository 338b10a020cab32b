/** All cities of the server, found by any of their names. */

import { useMemo, useState } from "preact/hooks";
import { api, type City } from "../api";
import { type Language, language } from "../language";
import { useLoad } from "../load";
import { type CityRegion, RegionMap } from "../map/region-map";
import { cityTitle } from "../parts/city-head";
import { Trouble } from "../parts/trouble";
import { link } from "../router";
import { citiesWords } from "../words/cities";
import { shellWords } from "../words/shell";

/** Cities of which the map asks for their region. */
const MAPPED_MAX = 24;

export const title = () => citiesWords().title;

export default function Cities() {
  const w = citiesWords();
  const shell = shellWords();
  const [query, setQuery] = useState("");
  const { value, error, again } = useLoad((signal) => api.cities(query, undefined, signal), query);
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
          onInput={(event) => setQuery(event.currentTarget.value)}
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
    </>
  );
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
  const open = cities.filter(({ state }) => state === "open").slice(0, MAPPED_MAX);
  const { value } = useLoad(
    async (signal) => {
      const all = await Promise.allSettled(open.map(({ slug }) => api.city(slug, signal)));
      return all.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    },
    open.map(({ slug }) => slug).join(" "),
  );
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
  return <RegionMap regions={regions} label={citiesWords().map} />;
}
