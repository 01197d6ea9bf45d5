/**
 * A part of a page that comes from the server, in all its states: loading (a skeleton after 150 ms), error, forbidden,
 * the bank switching, empty, old, and well.
 *
 *     <Block of={loaded} title="Latest payments" isEmpty={(d) => d.entries.length === 0}
 *            empty={<Empty words="Nothing yet." action={<LinkButton href="/send">Send money</LinkButton>} />}>
 *       {(d) => <Table … />}
 *     </Block>
 */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import type { ApiError } from "../api";
import { lastAnswer } from "../connection";
import type { Loaded } from "../loaded";
import { formatSpan, formatTime } from "../time";
import { Button } from "./Button";
import { Notice, ProblemNotice } from "./Notice";

interface BlockProps<T> {
  of: Loaded<T>;
  children: (data: T) => ComponentChildren;
  /** A heading; `level` 2 unless told. */
  title?: string;
  level?: 2 | 3;
  /** Beside the heading. */
  actions?: ComponentChildren;
  isEmpty?: (data: T) => boolean;
  /** One sentence and the useful action: `Empty`. */
  empty?: ComponentChildren;
  /** Grey lines while loading. */
  lines?: number;
  /** What an error does not touch. */
  assurance?: string;
  /** Without the card around it. */
  bare?: boolean;
}

const SKELETON_MS = 150;
const OLD_MS = 5000;

export function Block<T>(props: BlockProps<T>) {
  const { title, actions, bare = false, level = 2 } = props;
  const id = useId();
  const Heading: "h2" | "h3" = level === 3 ? "h3" : "h2";
  return (
    <section class={bare ? "block" : "block card"} aria-labelledby={title ? id : undefined} aria-busy={props.of.isLoading}>
      {(title || actions) && (
        <div class="block-head">
          {title && <Heading id={id}>{title}</Heading>}
          {actions && <div class="block-actions">{actions}</div>}
        </div>
      )}
      <Inside {...props} />
    </section>
  );
}

function Inside<T>({ of, children, isEmpty, empty, lines = 3, assurance }: BlockProps<T>) {
  if (of.data === undefined) {
    return of.error ? <Failure error={of.error} retry={of.reload} assurance={assurance} /> : <Skeleton lines={lines} />;
  }
  return (
    <>
      {of.error ? <Old since={of.since} reload={of.reload} /> : <Aged data={of.data} />}
      {isEmpty?.(of.data) && empty ? empty : children(of.data)}
    </>
  );
}

interface FailureProps {
  error: ApiError;
  retry: () => void;
  assurance: string | undefined;
}

/** Why something cannot be shown. */
export function Failure({ error, retry, assurance = "Your money is not affected." }: FailureProps) {
  if (error.status === 403) {
    return (
      <Notice tone="neutral" title="You may not see this.">
        Ask an administrator of the bank for the role that is needed.
      </Notice>
    );
  }
  if (error.status === 404) {
    return <Notice tone="neutral" title="There is nothing here, or nothing that is yours to see." />;
  }
  if (error.status === 503) {
    return (
      <Notice tone="warning" title="The bank is switching to its standby.">
        This appears by itself as soon as the bank answers again. {assurance}
      </Notice>
    );
  }
  return <ProblemNotice error={error} title="This could not be loaded." retry={retry} assurance={assurance} />;
}

function Old({ since, reload }: { since: number; reload: () => void }) {
  return (
    <p class="old" role="status">
      <span>Not up to date. Shown: {formatTime(since || lastAnswer(), "clock")}.</span>{" "}
      <Button small kind="quiet" icon="refresh" onClick={reload}>
        Load again
      </Button>
    </p>
  );
}

/** Some answers come from the standby and say how old they may be. */
function Aged({ data }: { data: unknown }) {
  const told = typeof data === "object" && data !== null && "stale_ms" in data ? data.stale_ms : 0;
  if (typeof told !== "number" || told < OLD_MS) return null;
  return <p class="old">These figures may be {formatSpan(told / 1000)} old.</p>;
}

/** Grey lines where something will stand; not at once, since what flickers looks slow. */
export function Skeleton({ lines = 3 }: { lines?: number }) {
  const [isShown, setShown] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), SKELETON_MS);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class={isShown ? "skeleton" : "skeleton skeleton-hidden"}>
      <span class="hidden">Loading…</span>
      {Array.from({ length: lines }, (_, i) => (
        <span key={i} class="skeleton-line" aria-hidden="true" />
      ))}
    </div>
  );
}

/** Nothing there yet: one sentence, and what to do. */
export function Empty({ words, action }: { words: string; action?: ComponentChildren }) {
  return (
    <div class="empty">
      <p>{words}</p>
      {action}
    </div>
  );
}
