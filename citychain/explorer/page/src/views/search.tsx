/** What was found for what somebody typed; one thing alone is gone to at once. */

import { useEffect } from "preact/hooks";
import { api, type Found } from "../api";
import { useLoad } from "../load";
import { short } from "../parts/id";
import { Trouble } from "../parts/trouble";
import { link, type Params } from "../router";
import { searchWords } from "../words/search";
import { shellWords } from "../words/shell";

const ADDRESS: Record<Found["kind"], (city: string, id: string) => string> = {
  city: (city) => link("city", city),
  transaction: (city, id) => link("city", city, "tx", id),
  node: (city, id) => link("city", city, "node", id),
  author: (city, id) => link("city", city, "author", id),
  round: (city, id) => link("city", city, "round", id),
};

export const title = ({ query = "" }: Params) => searchWords().title(query);

export default function SearchView({ params: { query = "" } }: { params: Params }) {
  const w = searchWords();
  const { value, error, again } = useLoad((signal) => api.search(query, signal), query);
  const only = value?.found.length === 1 ? value.found[0] : undefined;
  useEffect(() => {
    if (only) location.replace(ADDRESS[only.kind](only.city, only.id));
  }, [only]);
  return (
    <>
      <h1>{w.heading(query)}</h1>
      {error && <Trouble error={error} again={again} />}
      {!error && value === null && <p class="empty">{shellWords().loading}</p>}
      {value?.found.length === 0 && <p class="empty">{w.nothing}</p>}
      <ul class="found">
        {value?.found.map(({ kind, city, id }) => (
          <li key={`${kind} ${city} ${id}`}>
            <a class="card" href={ADDRESS[kind](city, id)}>
              <span class="quiet">{w[kind]}</span>
              <strong class={kind === "city" || kind === "round" ? "" : "id"}>
                {kind === "city" ? city : short(id)}
              </strong>
              {kind !== "city" && <span class="quiet">{city}</span>}
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}
