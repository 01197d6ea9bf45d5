/** A payment between banks as the protocol saw it: a lane for each place, time going down, one mark for each step. */

import { State } from "./parts";
import type { Payment, PaymentStep } from "./types";
import { paymentState, plain, stepWord } from "./words";

const bankOf = (account: string): string => account.slice(0, account.indexOf("/"));

/** Name the places in the order in which a payment goes through them: payer's bank, gateway, payee's bank. */
export function lanesOf(payment: Payment): string[] {
  const [from, to] = [bankOf(payment.payer), bankOf(payment.payee)];
  const between = payment.steps.map((step) => step.bank).filter((bank) => bank !== from && bank !== to);
  return [...new Set([from, ...between, to])];
}

const PHASES: Record<string, string> = {
  held: "The payer's bank sets the money aside.",
  intended: "The gateway writes down what is to happen.",
  prepared: "The payee's bank promises to take it.",
  decided: "The gateway decides. From here on it will be done, whatever fails.",
  posted: "The bank carries out the decision.",
  aborted: "The gateway decides against it. Nothing will be paid.",
  voided: "The bank frees what was set aside.",
  refused: "It was refused.",
};

function clockOf(time: string): string {
  const at = new Date(time);
  const millis = String(at.getMilliseconds()).padStart(3, "0");
  return `${at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" })}.${millis}`;
}

/** Order steps by time; those of the same time in the order in which the protocol takes them. */
function ordered(steps: PaymentStep[]): PaymentStep[] {
  const rank = Object.keys(PHASES);
  return [...steps].sort((a, b) => Date.parse(a.time) - Date.parse(b.time) || rank.indexOf(a.step) - rank.indexOf(b.step));
}

export function Timeline({ payment }: { payment: Payment }) {
  const lanes = lanesOf(payment);
  const steps = ordered(payment.steps);
  const began = steps[0] ? Date.parse(steps[0].time) : 0;
  return (
    <div class={`trace lanes-${lanes.length}`}>
      <p class="trace-state">
        <State told={paymentState(payment.state)} /> {payment.reason ? plain(payment.reason) : ""}
      </p>
      <div class="lane-names" aria-hidden="true">
        {lanes.map((lane, at) => (
          <span key={lane}>
            {lane} <small>{at === 0 ? "pays" : at === lanes.length - 1 ? "is paid" : "between them"}</small>
          </span>
        ))}
      </div>
      <ol class="trace-steps">
        {steps.map((step) => (
          <li
            key={`${step.bank}-${step.step}-${step.time}`}
            class={`trace-step lane-${lanes.indexOf(step.bank) + 1} trace-${step.step}`}
          >
            <div class="trace-body">
              <span class="trace-mark" aria-hidden="true" />
              <p class="trace-what">
                <strong>{stepWord(step.step)}</strong> <span class="trace-where">at {step.bank}</span>
              </p>
              <p class="trace-when">
                <time dateTime={step.time}>{clockOf(step.time)}</time>{" "}
                <span class="trace-after">+{Math.max(0, Date.parse(step.time) - began).toLocaleString()} ms</span>
              </p>
              <p class="trace-why">{step.reason ? plain(step.reason) : PHASES[step.step]}</p>
            </div>
          </li>
        ))}
        {payment.state === "pending" && (
          <li class="trace-step trace-waiting" key="waiting">
            <div class="trace-body">
              <span class="trace-mark" aria-hidden="true" />
              <p class="trace-what">Waiting for {payment.missing.join(" and ") || "the next step"}</p>
            </div>
          </li>
        )}
      </ol>
    </div>
  );
}
