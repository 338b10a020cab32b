/** An id: short in lists, whole and ready to be copied where it is the subject. */

import { useEffect, useState } from "preact/hooks";
import { shellWords } from "../words/shell";

/** The first and last digits of an id. */
export function short(id: string): string {
  return id.length > 20 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id;
}

export function Id({ value, href }: { value: string; href?: string }) {
  return href ? (
    <a class="id" href={href} title={value}>
      {short(value)}
    </a>
  ) : (
    <span class="id" title={value}>
      {short(value)}
    </span>
  );
}

export function WholeId({ value, href }: { value: string; href?: string }) {
  const w = shellWords();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <span class="whole-id">
      {href ? (
        <a class="id" href={href}>
          {value}
        </a>
      ) : (
        <span class="id">{value}</span>
      )}
      {navigator.clipboard && (
        <button
          type="button"
          class="copy"
          onClick={() => navigator.clipboard.writeText(value).then(() => setCopied(true))}
        >
          <span aria-live="polite">{copied ? w.copied : w.copy}</span>
        </button>
      )}
    </span>
  );
}
