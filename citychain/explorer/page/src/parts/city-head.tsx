/** A city's name and its row of tabs. */

import { type About, api, type City } from "../api";
import { type Language, language } from "../language";
import { useLoad } from "../load";
import { link, type Route } from "../router";
import { shellWords, TABS, type Tab } from "../words/shell";

/** A city's title in the reader's language, else in whatever it has. */
export function cityTitle(city: City, tongue: Language): string {
  return city.titles[tongue] ?? city.titles.en ?? Object.values(city.titles)[0] ?? city.slug;
}

export function CityHead(props: {
  city: string;
  route: Route<Tab>;
  routes: readonly Route<Tab>[];
  about: About | null;
}) {
  const { city, route, routes, about } = props;
  const w = shellWords();
  const details = useLoad((signal) => api.city(city, signal), city).value;
  const known = details?.slug === city || details?.aliases.includes(city) ? details : null;
  const title = known ? cityTitle(known, language.value) : city;
  const other = language.value === "en" ? known?.titles.ja : known?.titles.en;
  const tabs = TABS.map((tab) =>
    routes.find((each) => each.tab === tab && !/:(?!city)/.test(each.pattern)),
  )
    .filter((each) => each !== undefined)
    .filter((each) => each.tab !== "submit" || about === null || about.submit || about.sign_in);
  return (
    <nav class="city-head" aria-label={title}>
      <p class="city-name">
        <a href={link("city", city)}>{title}</a>
        {other && other !== title && (
          <span class="other" lang={language.value === "en" ? "ja" : "en"}>
            {other}
          </span>
        )}
      </p>
      <div class="tabs">
        {tabs.map(({ pattern, tab }) => (
          <a
            key={tab}
            href={`#/${pattern.replace(":city", encodeURIComponent(city))}`}
            aria-current={tab === route.tab ? "page" : undefined}
          >
            {tab && w[tab]}
          </a>
        ))}
      </div>
    </nav>
  );
}
