/** Whether the bank answers; told by every answer and by the stream, shown by the banner. */

import { createStore } from "./store";

export interface Connection {
  /** `switching`: the pages' server answers, the bank's primary does not; `offline`: nothing answers. */
  state: "ok" | "switching" | "offline";
  /** Since when, in milliseconds. */
  since: number;
}

export const connection = createStore<Connection>({ state: "ok", since: Date.now() });

let answered = Date.now();

/** When the bank last answered: what is shown is of then. */
export const lastAnswer = (): number => answered;

/** Take note of what was just seen. */
export function seen(state: Connection["state"]): void {
  if (state === "ok") answered = Date.now();
  if (connection.get().state !== state) connection.set({ state, since: Date.now() });
}
