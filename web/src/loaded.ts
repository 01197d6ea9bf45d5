/**
 * What a page shows comes from the server: loaded, loaded anew, and known to be old when it is. `Block` draws it.
 *
 *     const accounts = useLoaded((signal) => api.get("/api/accounts", { signal }), [], { live: true });
 *     return <Block of={accounts}>{({ accounts }) => <List of={accounts} />}</Block>;
 */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import { connection } from "./connection";
import { useEntries } from "./live";

export interface Loaded<T> {
  /** What was loaded last; undefined before. */
  data: T | undefined;
  /** Why the last attempt failed; undefined if it did not. */
  error: ApiError | undefined;
  isLoading: boolean;
  /** When `data` came, in milliseconds. */
  since: number;
  reload: () => void;
  /** Show something newer that came by another way, such as an answer to a change. */
  replace: (data: T) => void;
}

interface Options {
  /** Load anew when entries arrive at one's accounts. */
  live?: boolean;
  /** Load anew every so often. */
  every_ms?: number;
  /** Nothing to load yet. */
  skip?: boolean;
}

type State<T> = Pick<Loaded<T>, "data" | "error" | "isLoading" | "since">;

const GATHER_MS = 200;
const NOTHING = { data: undefined, error: undefined, isLoading: true, since: 0 };

/** Load something, anew whenever one of `deps` changes; what was loaded for others is not shown then. */
export function useLoaded<T>(
  load: (signal: AbortSignal) => Promise<T>,
  deps: readonly unknown[],
  options: Options = {},
): Loaded<T> {
  const [state, setState] = useState<State<T>>(NOTHING);
  const latest = useRef(load);
  latest.current = load;
  const running = useRef<AbortController | null>(null);
  const { live = false, every_ms = 0, skip = false } = options;

  const reload = useCallback(() => {
    running.current?.abort();
    const mine = new AbortController();
    running.current = mine;
    setState((was) => ({ ...was, isLoading: true }));
    latest.current(mine.signal).then(
      (data) => {
        if (running.current === mine) running.current = null;
        if (!mine.signal.aborted) setState({ data, error: undefined, isLoading: false, since: Date.now() });
      },
      (error: unknown) => {
        if (running.current === mine) running.current = null;
        if (mine.signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        setState((was) => ({ ...was, error, isLoading: false }));
      },
    );
  }, []);

  useEffect(() => {
    if (skip) return undefined;
    setState(NOTHING);
    reload();
    return () => running.current?.abort();
  }, [skip, ...deps]);

  useEffect(() => {
    if (!every_ms || skip) return undefined;
    // what is slower than that is waited for, or it would never come
    const timer = setInterval(() => !document.hidden && !running.current && reload(), every_ms);
    return () => clearInterval(timer);
  }, [every_ms, skip]);

  const gathering = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEntries(() => {
    if (!live || skip) return;
    clearTimeout(gathering.current);
    gathering.current = setTimeout(reload, GATHER_MS);
  });
  useEffect(() => () => clearTimeout(gathering.current), []);

  const failed = useRef(false);
  failed.current = state.error?.isSwitching === true || state.error?.isUnknown === true;
  useEffect(() => connection.watch((now) => now.state === "ok" && failed.current && !skip && reload()), [skip]);

  const replace = useCallback((data: T) => {
    setState({ data, error: undefined, isLoading: false, since: Date.now() });
  }, []);
  return { ...state, reload, replace };
}
