/** A line of recent values: a figure's course. Its last value stands beside it as text. */

/** Fewer values are no course. */
const FEWEST = 5;

export function Spark({ values, tone }: { values: readonly number[]; tone: string }) {
  const most = Math.max(...values, 1e-9);
  const step = 100 / Math.max(values.length - 1, 1);
  const points = values.map((value, index) => `${index * step},${23 - (value / most) * 21}`);
  return (
    <svg class={`spark ${tone}`} viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
      {points.length >= FEWEST && (
        <>
          <polygon points={`0,24 ${points.join(" ")} 100,24`} />
          <polyline points={points.join(" ")} vector-effect="non-scaling-stroke" />
        </>
      )}
    </svg>
  );
}
