/** Fields of the staff's forms: any of a few, a search that leads to a page, a secret shown once. */

import { useId, useState } from "preact/hooks";
import { Button, CheckField } from "../components";
import { go } from "../router";

interface ChecksProps<T extends string> {
  label: string;
  options: readonly (readonly [T, string])[];
  chosen: readonly T[];
  onChange: (chosen: T[]) => void;
  hint?: string;
}

/** Any of a few. */
export function Checks<T extends string>({ label, options, chosen, onChange, hint = "" }: ChecksProps<T>) {
  const flip = (key: T) => onChange(chosen.includes(key) ? chosen.filter((each) => each !== key) : [...chosen, key]);
  return (
    <fieldset class="choice">
      <legend>{label}</legend>
      {options.map(([key, words]) => (
        <CheckField key={key} label={words} value={chosen.includes(key)} onValue={() => flip(key)} />
      ))}
      {hint && <p class="field-hint">{hint}</p>}
    </fieldset>
  );
}

interface SearchProps {
  label: string;
  button: string;
  to: (name: string) => string;
  digits?: boolean;
}

/** A name or number that leads to its page. */
export function NameSearch({ label, button, to, digits = false }: SearchProps) {
  const id = useId();
  const [text, setText] = useState("");
  const name = digits ? text.replace(/\D/g, "") : text.trim().toLowerCase();
  return (
    <form
      class="name-search"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        if (name) go(to(name));
      }}
    >
      <label for={id}>{label}</label>
      <div class="name-search-row">
        <input
          id={id}
          value={text}
          inputMode={digits ? "numeric" : "text"}
          maxLength={64}
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <Button type="submit">
          {button}
        </Button>
      </div>
    </form>
  );
}

/** Something that is shown once: to be read, selected or copied. */
export function Secret({ name, value }: { name: string; value: string }) {
  const [said, setSaid] = useState("");
  const copy = () =>
    navigator.clipboard.writeText(value).then(
      () => setSaid("Copied"),
      () => setSaid("It could not be copied. Select it and copy it by hand."),
    );
  return (
    <div class="secret">
      <p class="secret-name">{name}</p>
      <p class="secret-value">
        <code>{value}</code>
        <Button small onClick={() => void copy()}>
          Copy
        </Button>
      </p>
      <p class="quiet" role="status">
        {said}
      </p>
    </div>
  );
}

interface PagerProps {
  page: number;
  back: (() => void) | null;
  forth: (() => void) | null;
  backWord?: string;
  forthWord?: string;
}

/** Leads through pages of a list; nothing where there is one only. */
export function Pager({ page, back, forth, backWord = "Previous", forthWord = "Next" }: PagerProps) {
  if (!back && !forth) return null;
  return (
    <nav class="pager" aria-label="Pages of the list">
      <Button disabled={!back} onClick={() => back?.()}>
        {backWord}
      </Button>
      <span aria-live="polite">Page {page}</span>
      <Button disabled={!forth} onClick={() => forth?.()}>
        {forthWord}
      </Button>
    </nav>
  );
}
