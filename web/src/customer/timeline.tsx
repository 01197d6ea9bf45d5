/** The steps of a payment, oldest first: what, at which bank, when, at which position of its journal. */

import type { Shapes } from "../api";
import { Icon, sentence } from "../components";
import { formatTime } from "../time";
import { plain, stepWord } from "./words";

type Step = Shapes["PaymentStep"];

interface TimelineProps {
  /** When it was ordered in this browser, or empty. */
  created: string;
  steps: readonly Step[];
  /** Who must still act. */
  missing: readonly string[];
  isOpen: boolean;
}

const BAD = new Set(["refused", "aborted", "voided", "expired"]);

export function Timeline({ created, steps, missing, isOpen }: TimelineProps) {
  const first: Step[] = created ? [{ bank: "", step: "created", time: created, position: 0, reason: "" }] : [];
  const all = [...first, ...steps];
  return (
    <ol class="timeline" aria-label="Steps of this payment">
      {all.map((step) => (
        <Line key={`${step.bank}/${step.step}/${step.time}`} step={step} />
      ))}
      {isOpen && (
        <li class="timeline-step timeline-next">
          <span class="timeline-mark">
            <span class="spinner" aria-hidden="true" />
          </span>
          <div>
            <p class="timeline-word">{waitingWords(missing)}</p>
          </div>
        </li>
      )}
    </ol>
  );
}

function waitingWords(missing: readonly string[]): string {
  if (missing.length === 0) return "Waiting for the next step";
  return `Waiting for ${new Intl.ListFormat().format(missing.map(plain))}`;
}

function Line({ step }: { step: Step }) {
  const { word, meaning } = stepWord(step.step);
  const isBad = BAD.has(step.step);
  const where = [step.bank && (step.bank === "gateway" ? "Gateway" : `Bank ${step.bank}`), step.position > 0 && `position ${step.position}`];
  return (
    <li class={isBad ? "timeline-step timeline-bad" : "timeline-step"}>
      <span class="timeline-mark">
        <Icon name={isBad ? "close" : "check"} size={14} />
      </span>
      <div>
        <p class="timeline-word">{word}</p>
        <p class="muted">{sentence(step.reason) || meaning}</p>
        <p class="timeline-more">
          <time dateTime={step.time}>{`${formatTime(step.time, "date")}, ${formatTime(step.time, "clock")}`}</time>
          {where.filter(Boolean).map((each) => (
            <span key={String(each)}>{each}</span>
          ))}
        </p>
      </div>
    </li>
  );
}
