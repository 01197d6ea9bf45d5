/**
 * A message in the page: what happened and what to do.
 *
 *     <Notice tone="warning" title="This account is frozen">Ask your bank to open it again.</Notice>
 *     <ProblemNotice error={error} retry={send} />
 */

import type { ComponentChildren } from "preact";
import type { ApiError } from "../api";
import { Button } from "./Button";
import { Icon } from "./Icon";
import { type Tone, TONE_ICONS } from "./Status";

interface NoticeProps {
  tone: Tone;
  title?: ComponentChildren;
  children?: ComponentChildren;
  /** Read out at once by screen readers: true for what answers a deed. */
  alert?: boolean;
}

export function Notice({ tone, title, children, alert = false }: NoticeProps) {
  return (
    <div class={`notice tone-${tone}`} role={alert ? "alert" : undefined}>
      <Icon name={tone === "danger" ? "alert" : tone === "info" ? "info" : TONE_ICONS[tone]} />
      <div class="notice-words">
        {title && <p class="notice-title">{title}</p>}
        {children && <div>{children}</div>}
      </div>
    </div>
  );
}

/** Capital first, full stop last: the server's details are written without. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  if (!trimmed) return "";
  const ended = /[.!?…]$/.test(trimmed) ? trimmed : `${trimmed}.`;
  return ended.charAt(0).toUpperCase() + ended.slice(1);
}

interface ProblemProps {
  error: ApiError;
  /** What to say first; else the error's own words. */
  title?: string;
  retry?: () => void;
  retryWords?: string;
  /** Such as "Your money is not affected."; empty for nothing. */
  assurance?: string;
}

/** An error of the server: what, what to do, and the code to tell the bank. */
export function ProblemNotice({ error, title, retry, retryWords = "Try again", assurance = "" }: ProblemProps) {
  const { problem } = error;
  const words = sentence(problem.detail || problem.title);
  return (
    <Notice tone={error.isSwitching ? "warning" : "danger"} title={title ?? words} alert>
      {title && <p>{words}</p>}
      {problem.hint && <p>{sentence(problem.hint)}</p>}
      {assurance && <p>{assurance}</p>}
      <p class="notice-foot">
        {retry && (
          <Button small onClick={retry} icon="refresh">
            {retryWords}
          </Button>
        )}
        {problem.code && <span class="code">Code {problem.code}</span>}
      </p>
    </Notice>
  );
}
