/** Pieces that several of the staff's pages are made of, on top of what all pages share. */

import type { ComponentChildren } from "preact";
import { ApiError } from "../api";
import { Block, Empty, Icon, Notice, ProblemNotice, Status } from "../components";
import { idInGroups } from "../ids";
import type { Loaded } from "../loaded";
import { failureOf } from "./failures";
import type { Cluster } from "./types";
import type { Told } from "./words";

/** What staff reads where a customer would read about their money. */
const ASSURANCE = "The books are not affected.";

export function State({ told }: { told: Told }) {
  return <Status tone={told.tone}>{told.word}</Status>;
}

/** No value; a card of a narrow screen leaves it out. */
export function None() {
  return <span class="none">–</span>;
}

/** Something that must hold, and whether it does. */
export function Check({ holds, yes, no }: { holds: boolean; yes: string; no: string }) {
  return <Status tone={holds ? "ok" : "danger"}>{holds ? yes : no}</Status>;
}

interface PanelProps<T> {
  name: string;
  shown: Loaded<T>;
  /** One sentence where there is nothing; empty where there is something. */
  empty?: (data: T) => string;
  /** What to do then. */
  action?: ComponentChildren;
  /** Beside the heading. */
  after?: ComponentChildren;
  /** Without a heading of its own, where the page's says it. */
  hidden?: boolean;
  bare?: boolean;
  lines?: number;
  children: (data: T) => ComponentChildren;
}

/** A block of a page, with its heading and all states. */
export function Panel<T>({ name, shown, empty, action, after, hidden = false, bare = false, lines = 4, children }: PanelProps<T>) {
  const words = shown.data !== undefined && empty ? empty(shown.data) : "";
  return (
    <Block
      of={shown}
      bare={bare}
      lines={lines}
      assurance={ASSURANCE}
      actions={after}
      isEmpty={() => words !== ""}
      empty={<Empty words={words} action={action} />}
      {...(hidden ? {} : { title: name })}
    >
      {children}
    </Block>
  );
}

const SECONDS: Intl.DateTimeFormatOptions = {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
};

/** A time to the second, as operators compare logs. */
export function Moment({ time }: { time: string }) {
  return (
    <time dateTime={time} title={time} class="moment">
      {new Intl.DateTimeFormat(undefined, SECONDS).format(new Date(time))}
    </time>
  );
}

/** The signs of an id that tell it from others: its end, as it begins with the time. */
export const shortOf = (id: string): string => id.slice(-8);

/** An id as people compare them; the whole of it where one looks closer. */
export function ShortId({ id }: { id: string }) {
  return (
    <code class="short-id" title={idInGroups(id)}>
      …{shortOf(id)}
    </code>
  );
}

/** A person: the name as a link, the username under it. */
export function Names({ name, username, href }: { name: string; username: string; href: string }) {
  return (
    <span class="names">
      <a href={href}>{name || username}</a>
      {name && <span class="quiet">{username}</span>}
    </span>
  );
}

/** Why an act did not come about, whoever says so. */
export function ActFailure({ failure }: { failure: unknown }) {
  return <ProblemNotice error={new ApiError(failureOf(failure).problem)} />;
}

const SEVERITY = { ok: "ok", warning: "warning", danger: "danger" } as const;

/** How the bank is, in one sentence, and what to do next. */
export function Headline({ cluster }: { cluster: Cluster }) {
  const tone = SEVERITY[cluster.severity];
  return (
    <div class={`headline tone-${tone}`}>
      <Icon name={tone === "ok" ? "check" : "alert"} size={28} />
      <div>
        <p class="headline-words">{cluster.headline}</p>
        {cluster.advice && (
          <p class="headline-advice">
            <strong>Next:</strong> {cluster.advice}
          </p>
        )}
      </div>
    </div>
  );
}

/** A verdict over what follows, with what it rests on. */
export function Verdict({ tone, title, children }: { tone: "ok" | "warning" | "danger"; title: string; children?: ComponentChildren }) {
  return (
    <div class="verdict">
      <Notice tone={tone} title={title}>
        {children}
      </Notice>
    </div>
  );
}
