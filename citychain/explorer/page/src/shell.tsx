/** What stands around every view: the head of the page, and the view that the address asks for. */

import { useComputed } from "@preact/signals";
import { Component, type ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { api } from "./api";
import { language } from "./language";
import { useLoad } from "./load";
import { hash } from "./location";
import { Choices } from "./parts/choices";
import { CityHead } from "./parts/city-head";
import { SearchBox } from "./parts/search-box";
import { find, link, type Params, type Place, type Route, type View } from "./router";
import { routes } from "./routes";
import { shellWords, type Tab } from "./words/shell";

export function Shell() {
  const w = shellWords();
  const main = useRef<HTMLElement>(null);
  const place = useComputed(() => find(routes, hash.value)).value;
  const city = place?.params.city;
  const about = useLoad((signal) => api.about(signal), "about").value;
  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>
        {w.skip}
      </button>
      <header class="top">
        <a class="brand" href={link()}>
          <img src="icon.svg" alt="" width="28" height="28" />
          <span>citychain</span>
        </a>
        <SearchBox />
        <Choices />
      </header>
      {city !== undefined && place && (
        <CityHead city={city} route={place.route} routes={routes} about={about} />
      )}
      <main id="content" tabIndex={-1} ref={main}>
        <Outlet place={place} main={main} />
      </main>
      <footer class="foot">
        <nav aria-label="citychain">
          {routes
            .filter((route) => route.pattern === "receipt" || route.pattern === "tour")
            .map(({ pattern }) => (
              <a key={pattern} href={link(pattern)}>
                {pattern === "receipt" ? w.receipt : w.tour}
              </a>
            ))}
          <a href="licences.txt">{w.licences}</a>
        </nav>
        {about && <span>{w.version(about.version)}</span>}
      </footer>
    </>
  );
}

interface Shown {
  view: ComponentType<{ params: Params }>;
  title: View["title"];
  params: Params;
  address: string;
}

/** Brings the view, names the window after it, and leads keyboard and screen reader to it. */
function Outlet(props: { place: Place<Route<Tab>> | null; main: { current: HTMLElement | null } }) {
  const { place, main } = props;
  const w = shellWords();
  const address = hash.value;
  const [shown, setShown] = useState<Shown | null>(null);
  const [failed, setFailed] = useState(false);
  const [turn, setTurn] = useState(0);
  const first = useRef(true);
  const left = useRef<Element | null>(null);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the address says all of the place.
  useEffect(() => {
    if (place === null) return;
    let late = false;
    left.current = document.activeElement;
    setFailed(false);
    place.route.load().then(
      ({ default: view, title }) => {
        if (!late) setShown({ view, title, params: place.params, address });
      },
      () => {
        if (!late) setFailed(true);
      },
    );
    return () => {
      late = true;
    };
  }, [address, turn]);

  useEffect(() => {
    if (shown === null) return;
    if (!first.current) {
      scrollTo(0, 0);
      // Who went elsewhere while it loaded, and types there, is not taken away.
      if ([left.current, document.body].includes(document.activeElement))
        main.current?.focus({ preventScroll: true });
    }
    first.current = false;
  }, [shown, main]);

  const words = language.value;
  // biome-ignore lint/correctness/useExhaustiveDependencies: a title is in the language of the page.
  useEffect(() => {
    const title = place === null ? w.notFound : shown?.title(shown.params);
    document.title = title ? `${title} – citychain` : "citychain";
  }, [shown, place, words]);

  if (place === null) return <h1 class="nowhere">{w.notFound}</h1>;
  if (failed) return <Broken retry={() => setTurn(turn + 1)} />;
  if (shown === null) return <p class="empty">{w.loading}</p>;
  return <Guard key={shown.address} view={shown.view} params={shown.params} />;
}

function Broken({ retry }: { retry: () => void }) {
  const w = shellWords();
  return (
    <div class="trouble" role="alert">
      <p>{w.broken}</p>
      <button type="button" onClick={retry}>
        {w.retry}
      </button>
    </div>
  );
}

/**
 * Keeps a view that fails from taking the page with it. It makes the view's element itself: one
 * that was handed down would be kept as it was first, and with it all that was drawn since.
 */
class Guard extends Component<
  { view: ComponentType<{ params: Params }>; params: Params },
  { failed: boolean }
> {
  override state = { failed: false };

  static override getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (this.state.failed) return <Broken retry={() => this.setState({ failed: false })} />;
    const { view: Shown, params } = this.props;
    return <Shown params={params} />;
  }
}
