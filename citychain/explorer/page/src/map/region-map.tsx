/** Regions of cities over the outline of the world, from this page's own files alone. */

import { geoArea, geoMercator, geoPath } from "d3-geo";
import type { Feature, FeatureCollection, Geometry, Position } from "geojson";
import { useMemo } from "preact/hooks";
import { feature } from "topojson-client";
import type { Topology } from "topojson-specification";
import { useLoad } from "../load";
import { link } from "../router";

export interface CityRegion {
  city: string;
  title: string;
  /** The city's own has no name; neighbours have theirs. */
  features: Feature[];
}

const WIDTH = 720;
const HEIGHT = 360;
/** With more cities, names would lie over each other: who points at one is told its name. */
const NAMED_MAX = 40;
/** A map shows at least so many degrees around a region, so that one knows the coast. */
const AROUND = 0.6;

let world: Promise<Feature | FeatureCollection> | undefined;

/** The outline of the land; loaded once, at the first map. */
function loadWorld(): Promise<Feature | FeatureCollection> {
  world ??= fetch(new URL(WORLD, import.meta.url))
    .then((response) => response.json() as Promise<Topology>)
    .then((topology) => feature(topology, topology.objects.land as never));
  return world;
}

/** GeoJSON leaves open which way rings go round; d3 takes a wrong one for all the rest of earth. */
function turned(region: Feature): Feature {
  if (geoArea(region) < 2 * Math.PI) return region;
  const rings = (polygon: Position[][]) => polygon.map((ring) => [...ring].reverse());
  const { geometry } = region;
  let mended: Geometry = geometry;
  if (geometry.type === "Polygon")
    mended = { ...geometry, coordinates: rings(geometry.coordinates) };
  if (geometry.type === "MultiPolygon")
    mended = { ...geometry, coordinates: geometry.coordinates.map(rings) };
  return { ...region, geometry: mended };
}

export function RegionMap({ regions, label }: { regions: CityRegion[]; label: string }) {
  const land = useLoad(loadWorld, "world").value;
  const drawn = useMemo(() => {
    const all = regions.map(({ city, title, features }) => {
      const whole = features.map(turned);
      return {
        city,
        title,
        features: whole.filter(isOwn),
        neighbours: whole.filter((each) => !isOwn(each)),
      };
    });
    const projection = geoMercator();
    const points = all.flatMap(({ features }) => features.flatMap(corners));
    const lons = points.map(([lon]) => lon as number);
    const lats = points.map(([, lat]) => lat as number);
    const box: [number, number][] = [
      [Math.min(...lons) - AROUND, Math.max(-80, Math.min(...lats) - AROUND)],
      [Math.max(...lons) + AROUND, Math.min(80, Math.max(...lats) + AROUND)],
    ];
    projection.fitSize([WIDTH, HEIGHT], { type: "MultiPoint", coordinates: box });
    projection.clipExtent([
      [-10, -10],
      [WIDTH + 10, HEIGHT + 10],
    ]);
    const path = geoPath(projection).digits(1);
    const cities = all.map(({ city, title, features, neighbours }) => {
      const collection: FeatureCollection = { type: "FeatureCollection", features };
      const middle = path.centroid(collection);
      const around = path({ type: "FeatureCollection", features: neighbours }) ?? "";
      return { city, title, outline: path(collection) ?? "", around, middle, under: false };
    });
    // Of two names that would lie over each other, the second stands below.
    for (const [index, city] of cities.entries())
      city.under = cities
        .slice(0, index)
        .some(
          ({ middle: [x, y], under }) =>
            !under && Math.hypot(x - city.middle[0], (y - city.middle[1]) * 3) < 90,
        );
    return { land: land && path(land), cities };
  }, [regions, land]);
  return (
    <nav aria-label={label}>
      <svg class="map" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="presentation">
        <rect class="sea" width={WIDTH} height={HEIGHT} />
        {drawn.land && <path class="land" d={drawn.land} />}
        {drawn.cities.map(({ city, around }) => (
          <path key={city} class="neighbour" d={around} />
        ))}
        {drawn.cities.map(({ city, title, outline, middle: [x, y], under }) => (
          <a key={city} href={link("city", city)} aria-label={title}>
            <title>{title}</title>
            <path class="region" d={outline} />
            <circle class="pin" cx={x} cy={y} r="3.5" />
            {drawn.cities.length <= NAMED_MAX && (
              <text x={x} y={under ? y + 22 : y - 10}>
                {title}
              </text>
            )}
          </a>
        ))}
      </svg>
    </nav>
  );
}

/** Whether a feature is the city's own region. */
function isOwn(region: Feature): boolean {
  return !region.properties?.name;
}

/** The corners of a region's box. */
function corners(region: Feature): Position[] {
  const found: Position[] = [];
  const walk = (value: unknown): void => {
    if (!Array.isArray(value)) return;
    if (typeof value[0] === "number") found.push(value as Position);
    else for (const each of value) walk(each);
  };
  if ("coordinates" in region.geometry) walk(region.geometry.coordinates);
  let [west, south, east, north] = [180, 90, -180, -90];
  for (const [lon = 0, lat = 0] of found) {
    west = Math.min(west, lon);
    east = Math.max(east, lon);
    south = Math.min(south, lat);
    north = Math.max(north, lat);
  }
  return [
    [west, south],
    [east, north],
  ];
}
