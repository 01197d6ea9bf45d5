/**
 * Fields of a form: a label always seen, a hint, and an error that says how to put it right.
 *
 *     <TextField label="Amount" value={amount} onValue={setAmount} inputMode="decimal" error={words} hint="Such as 12.50" />
 *     <SelectField label="From" value={from} onValue={setFrom} options={[{ value: "1", label: "Current account" }]} />
 *     <CheckField label="Only outgoing payments" value={isOn} onValue={setOn} />
 *
 * Leave `error` empty until the person has left the field or tried to send; `focusFirstError(form)` leads there.
 */

import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { Icon } from "./Icon";

interface Named {
  label: string;
  hint?: ComponentChildren;
  error?: string;
}

interface Wiring {
  id: string;
  "aria-describedby": string | undefined;
  "aria-invalid": true | undefined;
}

/** Label, hint and error around any control; `children` is given what ties them together. */
export function Field({ label, hint, error, children }: Named & { children: (wiring: Wiring) => ComponentChildren }) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return (
    <div class={error ? "field field-wrong" : "field"}>
      <label for={id}>{label}</label>
      {hint && (
        <p class="field-hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {children({ id, "aria-describedby": described || undefined, "aria-invalid": error ? true : undefined })}
      {error && (
        <p class="field-error" id={`${id}-error`}>
          <Icon name="alert" size={16} />
          <span>{error}</span>
        </p>
      )}
    </div>
  );
}

interface TextProps extends Named {
  value: string;
  onValue: (value: string) => void;
  onLeave?: () => void;
  type?: "text" | "password" | "email" | "tel" | "date" | "search";
  name?: string;
  autoComplete?: AutoFill;
  inputMode?: "text" | "decimal" | "numeric" | "email" | "tel";
  maxLength?: number;
  placeholder?: string;
  required?: boolean;
  readOnly?: boolean;
  disabled?: boolean;
  min?: string;
  max?: string;
  list?: string;
  /** Of several lines. */
  rows?: number;
  /** Behind the control, such as a currency. */
  suffix?: ComponentChildren;
  /** Usernames, codes: no capital, no corrections. */
  exact?: boolean;
  autoFocus?: boolean;
}

export type AutoFill =
  | "off"
  | "username"
  | "current-password"
  | "new-password"
  | "one-time-code"
  | "name"
  | "email"
  | "tel"
  | "street-address";

export function TextField(props: TextProps) {
  const { label, hint, error, onValue, onLeave, rows, suffix, exact, value } = props;
  const exactly = exact ? ({ autoCapitalize: "none", autoCorrect: "off", spellcheck: false } as const) : {};
  const common = {
    ...exactly,
    name: props.name,
    autoComplete: props.autoComplete ?? "off",
    maxLength: props.maxLength,
    placeholder: props.placeholder,
    required: props.required,
    readOnly: props.readOnly,
    disabled: props.disabled,
    autoFocus: props.autoFocus,
    value,
    onBlur: onLeave,
  };
  return (
    <Field label={label} hint={hint} error={error ?? ""}>
      {(wiring) =>
        rows ? (
          <textarea {...common} {...wiring} rows={rows} onInput={(event) => onValue(event.currentTarget.value)} />
        ) : (
          <span class="control">
            <input
              {...common}
              {...wiring}
              // Preact's types list what goes with each type of input; what is given here goes with all of these
              type={(props.type ?? "text") as "text"}
              inputMode={props.inputMode}
              min={props.min}
              max={props.max}
              list={props.list}
              onInput={(event) => onValue(event.currentTarget.value)}
            />
            {suffix && <span class="control-suffix">{suffix}</span>}
          </span>
        )
      }
    </Field>
  );
}

interface SelectProps<T extends string> extends Named {
  value: T;
  onValue: (value: T) => void;
  options: readonly { value: T; label: string; disabled?: boolean }[];
  disabled?: boolean;
}

export function SelectField<T extends string>(props: SelectProps<T>) {
  const { label, hint, error, value, onValue, options } = props;
  return (
    <Field label={label} hint={hint} error={error ?? ""}>
      {(wiring) => (
        <span class="control control-select">
          <select
            {...wiring}
            value={value}
            disabled={props.disabled}
            onChange={(event) => onValue(event.currentTarget.value as T)}
          >
            {options.map((option) => (
              <option key={option.value} value={option.value} disabled={option.disabled}>
                {option.label}
              </option>
            ))}
          </select>
          <Icon name="chevron_down" size={16} />
        </span>
      )}
    </Field>
  );
}

interface CheckProps extends Named {
  value: boolean;
  onValue: (value: boolean) => void;
  disabled?: boolean;
}

export function CheckField({ label, hint, error, value, onValue, disabled }: CheckProps) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return (
    <div class="check">
      <input
        id={id}
        type="checkbox"
        checked={value}
        disabled={disabled}
        aria-describedby={described || undefined}
        aria-invalid={error ? true : undefined}
        onChange={(event) => onValue(event.currentTarget.checked)}
      />
      <div>
        <label for={id}>{label}</label>
        {hint && (
          <p class="field-hint" id={`${id}-hint`}>
            {hint}
          </p>
        )}
        {error && (
          <p class="field-error" id={`${id}-error`}>
            {error}
          </p>
        )}
      </div>
    </div>
  );
}

interface ChoiceProps<T extends string> extends Named {
  value: T;
  onValue: (value: T) => void;
  options: readonly { value: T; label: string; hint?: string }[];
}

/** One of a few, all seen at once. */
export function ChoiceField<T extends string>({ label, hint, error, value, onValue, options }: ChoiceProps<T>) {
  const id = useId();
  return (
    <fieldset class="choice" aria-describedby={error ? `${id}-error` : undefined}>
      <legend>{label}</legend>
      {hint && <p class="field-hint">{hint}</p>}
      {options.map((option) => (
        <label key={option.value} class="choice-option">
          <input
            type="radio"
            name={id}
            value={option.value}
            checked={option.value === value}
            onChange={() => onValue(option.value)}
          />
          <span>
            {option.label}
            {option.hint && <small>{option.hint}</small>}
          </span>
        </label>
      ))}
      {error && (
        <p class="field-error" id={`${id}-error`}>
          {error}
        </p>
      )}
    </fieldset>
  );
}

/** A form that is sent by us: never twice at once, and never by the browser. */
export function Form(props: { onSubmit: () => void; busy?: boolean; children: ComponentChildren; label?: string }) {
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    if (!props.busy) props.onSubmit();
  };
  return (
    <form class="form" noValidate onSubmit={onSubmit} aria-label={props.label} aria-busy={props.busy}>
      {props.children}
    </form>
  );
}

/** Lead to the first field that is wrong, once its error is drawn. */
export function focusFirstError(within: ParentNode = document): void {
  requestAnimationFrame(() => {
    const wrong = within.querySelector('[aria-invalid="true"]');
    if (wrong instanceof HTMLElement) wrong.focus();
  });
}
