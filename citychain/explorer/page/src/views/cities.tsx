/** All cities of the server, found by any of their names. */

import { useState } from "preact/hooks";
import { api, type City } from "../api";
import { type Language, language } from "../language";
import { useLoad } from "../load";
import { cityTitle } from "../parts/city-head";
import { Trouble } from "../parts/trouble";
import { link } from "../router";
import { citiesWords } from "../words/cities";
import { shellWords } from "../words/shell";

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
