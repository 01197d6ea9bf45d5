/** A password: hidden, to be looked at on demand. */

import { useState } from "preact/hooks";
import { Field } from "../components";
import { Icon } from "../components/Icon";

interface PasswordProps {
  label: string;
  value: string;
  onValue: (value: string) => void;
  autoComplete: "current-password" | "new-password";
  hint?: string;
  error?: string;
  onLeave?: () => void;
  onFocus?: () => void;
}

/** Longer ones are cut by no field but refused by the bank. */
const LENGTH_MAX = 1024;

export function PasswordField(props: PasswordProps) {
  const { label, hint, error, value, onValue } = props;
  const [isSeen, setSeen] = useState(false);
  return (
    <Field label={label} hint={hint} error={error ?? ""}>
      {(wiring) => (
        <span class="control control-password">
          <input
            {...wiring}
            type={(isSeen ? "text" : "password") as "text"}
            name="password"
            autoComplete={props.autoComplete}
            autoCapitalize="none"
            spellcheck={false}
            maxLength={LENGTH_MAX}
            value={value}
            onInput={(event) => onValue(event.currentTarget.value)}
            onBlur={props.onLeave}
            onFocus={props.onFocus}
          />
          <button
            type="button"
            class="icon-button"
            aria-label={isSeen ? "Hide what is typed" : "Show what is typed"}
            aria-pressed={isSeen}
            onClick={() => setSeen(!isSeen)}
          >
            <Icon name={isSeen ? "eye_off" : "eye"} />
          </button>
        </span>
      )}
    </Field>
  );
}
