/** What everybody must know now: the bank is switching, the device is offline, the session is about to end. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Button } from "./components/Button";
import { Icon } from "./components/Icon";
import { announce, toast } from "./components/Toast";
import { connection, lastAnswer } from "./connection";
import { refresh, renew, warning } from "./session";
import { useStore } from "./store";
import { formatTime } from "./time";

const WORDS = {
  switching: "The bank is switching to its standby.",
  offline: "Your device does not reach the bank.",
};
const BRIEF_MS = 400;
const PROBE_MS = 2000;

/** Say that the bank does not answer now, of when the figures are, and when it answers again. */
export function Banner() {
  const { state } = useStore(connection);
  const [isShown, setShown] = useState(false);
  const wasShown = useRef(false);
  useEffect(() => {
    if (state === "ok") {
      setShown(false);
      if (wasShown.current) toast("The bank answers again.", "ok");
      wasShown.current = false;
      return undefined;
    }
    // a single lost answer is no news
    const delay = setTimeout(() => {
      wasShown.current = true;
      setShown(true);
      announce(`${WORDS[state]} Shown: ${formatTime(lastAnswer(), "clock")}.`);
    }, BRIEF_MS);
    // without anything else to ask, ask who we are: the answer tells whether the bank is back
    let probe: ReturnType<typeof setTimeout> | undefined;
    const askLater = (): void => {
      probe = setTimeout(() => void refresh().then(() => probe && askLater()), PROBE_MS);
    };
    askLater();
    return () => {
      clearTimeout(delay);
      clearTimeout(probe);
      probe = undefined;
    };
  }, [state]);
  if (state === "ok" || !isShown) return null;
  return (
    <aside class="banner tone-warning" aria-label="State of the bank">
      <span class="spinner" aria-hidden="true" />
      <p>
        <strong>{WORDS[state]}</strong> Shown: {formatTime(lastAnswer(), "clock")}. Your money is not affected.
      </p>
    </aside>
  );
}

/** Say that the session ends soon, and offer to stay. */
export function SessionWarning() {
  const end = useStore(warning);
  useEffect(() => {
    if (end) announce("You will be signed out soon. Press a key or the button Stay signed in.");
  }, [end]);
  if (!end) return null;
  return (
    <div class="banner tone-info">
      <Icon name="clock" />
      <p>You will be signed out at {formatTime(end, "clock")}, since nothing was done here for a while.</p>
      <Button small onClick={() => void renew()}>
        Stay signed in
      </Button>
    </div>
  );
}
