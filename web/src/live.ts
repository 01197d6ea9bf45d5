/**
 * What happens while a page is open: a stream of events from the server (text/event-stream).
 *
 * Read by fetch, not EventSource: that gives up for ever after one refusal, and does not notice a dead connection. It
 * goes on at the last position, rests while the tab is hidden, as browsers open few connections to one server, and says
 * `resync` when something may have been missed.
 */

import { useEffect, useRef } from "preact/hooks";
import type { Shapes } from "./api";
import { seen } from "./connection";
import { EventParser, type Message } from "./events";
import { refresh } from "./session";

const SILENCE_MS = 40_000;
const HIDDEN_MS = 10_000;
const PAUSES_MS = [250, 500, 1000, 2000, 5000];

/** Listen to a stream until the function given back is called. `resync`: something may have been missed. */
export function listen(url: string, onMessage: (message: Message) => void, resync: () => void): () => void {
  let attempt = 0;
  let lastId = "";
  let isOver = false;
  let isFirst = true;
  let current: AbortController | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function hand(message: Message): void {
    try {
      onMessage(message);
    } catch (error) {
      reportError(error); // a fault in a page is shown as one, and the stream goes on
    }
  }

  async function run(): Promise<void> {
    const mine = new AbortController();
    current = mine;
    let alarm = setTimeout(() => mine.abort(), SILENCE_MS);
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (lastId) headers["Last-Event-ID"] = lastId;
      const answer = await fetch(url, { headers, signal: mine.signal, cache: "no-store", credentials: "same-origin" });
      if (answer.status === 401) {
        isOver = true;
        return void refresh();
      }
      if (!answer.ok || !answer.body) {
        if (answer.status === 503) seen("switching");
        return;
      }
      if (!isFirst && !lastId) resync();
      isFirst = false;
      const parser = new EventParser();
      const decoder = new TextDecoder();
      const reader = answer.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        attempt = 0; // not before: a stream that ends at once must not be asked for without a pause
        clearTimeout(alarm);
        alarm = setTimeout(() => mine.abort(), SILENCE_MS);
        for (const message of parser.receive(decoder.decode(value, { stream: true }))) hand(message);
        lastId = parser.id || lastId;
      }
    } catch {
      // cut, silent or refused: all the same, begin again
    } finally {
      clearTimeout(alarm);
      if (current === mine) {
        current = null;
        again();
      }
    }
  }

  function again(): void {
    clearTimeout(timer);
    if (isOver || document.hidden) return;
    const pause = PAUSES_MS[Math.min(attempt, PAUSES_MS.length - 1)] ?? 5000;
    attempt += 1;
    timer = setTimeout(() => void run(), pause * (0.75 + Math.random() / 2));
  }

  function onVisibility(): void {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => current?.abort(), HIDDEN_MS);
    else if (!current && !isOver) void run();
  }

  document.addEventListener("visibilitychange", onVisibility);
  if (!document.hidden) void run();
  return () => {
    isOver = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", onVisibility);
    current?.abort();
  };
}

type EntryEvent = Shapes["EntryEvent"];
type Listener = (event: EntryEvent | null) => void;
const listeners = new Set<Listener>();
let stop: (() => void) | null = null;

function tell(event: EntryEvent | null): void {
  for (const listener of [...listeners]) listener(event);
}

function onMessage(message: Message): void {
  if (message.event === "entry") tell(JSON.parse(message.data) as EntryEvent);
  else if (message.event === "connection") {
    const told = JSON.parse(message.data) as Shapes["ConnectionEvent"];
    seen(told.state);
  }
}

/** Listen to one's own entries while signed in; the shell does. */
export function goLive(): void {
  stop ??= listen("/api/stream", onMessage, () => tell(null));
}

export function endLive(): void {
  stop?.();
  stop = null;
}

/** Be told of each new entry of one's accounts; of null when some may have been missed, so load anew. */
export function useEntries(then: Listener): void {
  const latest = useRef(then);
  latest.current = then;
  useEffect(() => {
    const listener: Listener = (event) => latest.current(event);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
}

/** Be told of a stream's events of one name while this is shown, such as "cluster" of /api/admin/stream. */
export function useStream<T>(url: string, event: string, then: (data: T) => void): void {
  const latest = useRef(then);
  latest.current = then;
  useEffect(() => {
    const hear = (message: Message): void => {
      if (message.event === event) latest.current(JSON.parse(message.data) as T);
    };
    return listen(url, hear, () => undefined);
  }, [url, event]);
}
