/**
 * Says what it does: "Send €12.50", not "OK". While busy it stays where it is, keeps the focus, and does nothing.
 *
 *     <Button kind="primary" busy={sending} busyWords="Sending…" onClick={send}>Send €12.50</Button>
 *     <LinkButton href="/send">Send money</LinkButton>
 */

import type { ComponentChildren } from "preact";
import { Icon, type IconName } from "./Icon";

export type ButtonKind = "primary" | "plain" | "quiet" | "danger";

interface Looks {
  children: ComponentChildren;
  kind?: ButtonKind;
  icon?: IconName;
  small?: boolean;
}

interface ButtonProps extends Looks {
  onClick?: (event: MouseEvent) => void;
  /** "submit" sends the form that it stands in. */
  type?: "button" | "submit";
  busy?: boolean;
  busyWords?: string;
  disabled?: boolean;
  /** What it is called where the words alone do not say it, such as "Freeze account 4711". */
  label?: string;
  /** Of what it opens. */
  expanded?: boolean;
  controls?: string;
  pressed?: boolean;
}

const look = (kind: ButtonKind, small: boolean): string => `button button-${kind}${small ? " button-small" : ""}`;

export function Button(props: ButtonProps) {
  const { kind = "plain", type = "button", busy = false, small = false } = props;
  const onClick = (event: MouseEvent) => {
    if (busy) event.preventDefault();
    else props.onClick?.(event);
  };
  return (
    <button
      class={look(kind, small)}
      type={type}
      onClick={onClick}
      disabled={props.disabled}
      aria-disabled={busy || undefined}
      aria-label={props.label}
      aria-expanded={props.expanded}
      aria-controls={props.controls}
      aria-pressed={props.pressed}
    >
      {busy ? <span class="spinner" aria-hidden="true" /> : props.icon && <Icon name={props.icon} />}
      <span>{busy && props.busyWords ? props.busyWords : props.children}</span>
    </button>
  );
}

/** A link that looks like a button, for what leads to another page. */
export function LinkButton(props: Looks & { href: string; download?: boolean }) {
  const { kind = "plain", small = false } = props;
  return (
    <a class={look(kind, small)} href={props.href} download={props.download}>
      {props.icon && <Icon name={props.icon} />}
      <span>{props.children}</span>
    </a>
  );
}
