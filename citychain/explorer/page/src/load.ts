/** Getting what a view shows, and nothing that it no longer shows. */

import { useCallback, useEffect, useState } from "preact/hooks";

export interface Loaded<T> {
  /** What came last; what was shown before stays until the new is there. */
  value: T | null;
  error: Error | null;
  busy: boolean;
  /** Asks again. */
  again(): void;
}

/** Calls `load` whenever `key` changes, and ends the call that nobody waits for any more. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, key: string): Loaded<T> {
  const [turn, setTurn] = useState(0);
  const [state, setState] = useState<{ key: string; value: T | null; error: Error | null }>({
    key: "",
    value: null,
    error: null,
  });
  const now = `${turn} ${key}`;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for what `load` asks.
  useEffect(() => {
    const abort = new AbortController();
    load(abort.signal).then(
      (value) => {
        if (!abort.signal.aborted) setState({ key: now, value, error: null });
      },
      (error: Error) => {
        if (!abort.signal.aborted) setState((was) => ({ key: now, value: was.value, error }));
      },
    );
    return () => abort.abort();
  }, [now]);
  const again = useCallback(() => setTurn((was) => was + 1), []);
  return { value: state.value, error: state.error, busy: state.key !== now, again };
}
