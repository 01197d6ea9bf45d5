/**
 * Short messages: what a deed has led to. `toast` shows and says it; `announce` only says it to screen readers.
 *
 *     toast("The account is frozen.", "ok");
 */

import { createStore, useStore } from "../store";
import { Icon } from "./Icon";
import { type Tone, TONE_ICONS } from "./Status";

interface Shown {
  number: number;
  words: string;
  tone: Tone;
}

const LONG_MS = 8000;
const SHOWN_MAX = 3;

const shown = createStore<Shown[]>([]);
const spoken = createStore("");
let count = 0;

export function announce(words: string): void {
  // the same words twice would not be a change, so they would not be read
  spoken.set(spoken.get() === words ? `${words}\u00a0` : words);
}

export function toast(words: string, tone: Tone = "ok"): void {
  const number = ++count;
  shown.set([...shown.get(), { number, words, tone }].slice(-SHOWN_MAX));
  announce(words);
  setTimeout(() => dismiss(number), LONG_MS);
}

function dismiss(number: number): void {
  shown.set(shown.get().filter((each) => each.number !== number));
}

/** Where both appear; once, in the shell. */
export function Toasts() {
  const all = useStore(shown);
  const words = useStore(spoken);
  return (
    <>
      <div class="hidden" role="status" aria-live="polite">
        {words}
      </div>
      <ul class="toasts" role="list" aria-label="Messages" hidden={all.length === 0}>
        {all.map((each) => (
          <li key={each.number} class={`toast tone-${each.tone}`}>
            <Icon name={TONE_ICONS[each.tone]} />
            <span>{each.words}</span>
            <button type="button" class="icon-button" aria-label="Dismiss" onClick={() => dismiss(each.number)}>
              <Icon name="close" size={16} />
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}
