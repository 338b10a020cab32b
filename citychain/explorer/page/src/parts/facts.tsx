/** Names and values, as a list of them. */

import type { ComponentChildren } from "preact";

export type Fact = [name: string, value: ComponentChildren];

/** Shows facts; those without a value are left out. */
export function Facts({ facts }: { facts: Fact[] }) {
  return (
    <dl class="facts">
      {facts
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}
