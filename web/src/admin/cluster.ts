/** How the nodes are, by the event stream: one stream for all who look, and none when nobody does. */

import { useEffect } from "preact/hooks";
import { ApiError } from "../api";
import { listen } from "../live";
import type { Loaded } from "../loaded";
import { createStore, useStore } from "../store";
import type { Cluster } from "./types";

interface Sight {
  cluster: Cluster | undefined;
  /** When the last report came, in milliseconds; 0 before. */
  since: number;
  /** Whether reports come: false some seconds after the last one. */
  isLive: boolean;
}

const SILENCE_MS = 4_000;

const sight = createStore<Sight>({ cluster: undefined, since: 0, isLive: true });
let lookers = 0;
let stop: (() => void) | null = null;
let watchdog: ReturnType<typeof setTimeout> | undefined;

function watch(): void {
  clearTimeout(watchdog);
  watchdog = setTimeout(() => sight.set({ ...sight.get(), isLive: false }), SILENCE_MS);
}

function begin(): void {
  watch();
  const hear = (message: { event: string; data: string }) => {
    if (message.event !== "cluster") return;
    watch();
    sight.set({ cluster: JSON.parse(message.data) as Cluster, since: Date.now(), isLive: true });
  };
  stop = listen("/api/admin/stream", hear, () => undefined);
}

function end(): void {
  clearTimeout(watchdog);
  stop?.();
  stop = null;
}

const SILENT = new ApiError({
  type: "about:blank",
  title: "no report",
  status: 0,
  detail: "Nothing is told about the nodes at the moment.",
  code: "",
  retry: "same_id",
  hint: "The page goes on by itself as soon as it can.",
  status_name: "",
  facts: {},
});

/** Watch how the nodes are. */
export function useCluster(): Loaded<Cluster> {
  useEffect(() => {
    lookers += 1;
    if (lookers === 1) begin();
    return () => {
      lookers -= 1;
      if (lookers === 0) end();
    };
  }, []);
  const { cluster, since, isLive } = useStore(sight);
  const again = () => {
    end();
    begin();
  };
  return {
    data: cluster,
    error: isLive ? undefined : SILENT,
    isLoading: cluster === undefined && isLive,
    since,
    reload: again,
    replace: () => undefined,
  };
}
