/** The balance of past days: as a curve, and in the same place as a table. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type Shapes } from "../api";
import { Amount, Block, Button, Empty, Table, When } from "../components";
import { useLoaded } from "../loaded";
import { formatMoney } from "../money";
import { formatTime } from "../time";
import type { Point } from "./curve";

const SPANS = [
  { days: 30, words: "30 days" },
  { days: 90, words: "90 days" },
  { days: 366, words: "1 year" },
];

/** Show how the balance of an account went; `chooser` changes the account. */
export function CurveBlock({ number, chooser }: { number: number; chooser?: ComponentChildren }) {
  const [days, setDays] = useState(30);
  const [isTable, setTable] = useState(false);
  const curve = useLoaded(
    (signal) => api.get("/api/accounts/{number}/balances", { path: { number }, query: { days }, signal }),
    [number, days],
    { live: true },
  );
  const actions = (
    <>
      {chooser}
      <span class="spans" role="group" aria-label="How far back">
        {SPANS.map((span) => (
          <Button key={span.days} small kind="quiet" pressed={span.days === days} onClick={() => setDays(span.days)}>
            {span.words}
          </Button>
        ))}
      </span>
      <Button small kind="quiet" pressed={isTable} onClick={() => setTable(!isTable)}>
        {isTable ? "Show as curve" : "Show as table"}
      </Button>
    </>
  );
  const empty = <Empty words="The curve begins with the second day of an account." />;
  return (
    <Block of={curve} title="Balance over time" actions={actions} lines={5} isEmpty={(it) => it.points.length < 2} empty={empty}>
      {(it) => (isTable ? <AsTable {...it} /> : <AsCurve {...it} />)}
    </Block>
  );
}

type Curve = Shapes["BalanceCurve"];

function AsTable({ points, currency }: Curve) {
  return (
    <div class="curve-table" role="region" aria-label="Balance of each day" tabIndex={0}>
      <Table
        caption="Balance at the end of each day (UTC)"
        showCaption
        rows={[...points].reverse()}
        keyOf={(point) => point.day}
        columns={[
          { head: "Day", cell: (point) => <When time={point.day} style="date" />, isHead: true },
          { head: "Balance", cell: (point) => <Amount minor={point.balance} currency={currency} />, align: "end" },
        ]}
      />
    </div>
  );
}

function AsCurve({ points, currency }: Curve) {
  const place = useRef<HTMLDivElement>(null);
  const [told, setTold] = useState<Point | null>(null);
  const [isBroken, setBroken] = useState(false);
  useEffect(() => {
    let end: (() => void) | null = null;
    let isOver = false;
    import("./curve").then(
      ({ drawCurve }) => {
        if (!isOver && place.current) end = drawCurve(place.current, points, currency, setTold);
      },
      () => setBroken(true),
    );
    return () => {
      isOver = true;
      end?.();
    };
  }, [points, currency]);
  const shown = told ?? points.at(-1);
  if (isBroken) return <p class="muted">The curve could not be loaded. The table shows the same.</p>;
  return (
    <figure class="curve">
      <figcaption class="curve-told">
        {shown && (
          <>
            <Amount minor={shown.balance} currency={currency} />
            <span class="muted">{formatTime(shown.day, "date")}</span>
          </>
        )}
      </figcaption>
      <div class="curve-plot" ref={place} role="img" aria-label={summary(points, currency)} />
    </figure>
  );
}

function summary(points: Point[], currency: string): string {
  const sums = points.map((point) => BigInt(point.balance));
  const [low, high] = sums.reduce(([least, most], sum) => [sum < least ? sum : least, sum > most ? sum : most], [sums[0] ?? 0n, sums[0] ?? 0n]);
  const [first, last] = [points[0], points.at(-1)];
  if (!first || !last) return "";
  const from = `${formatMoney(first.balance, currency)} on ${formatTime(first.day, "date")}`;
  const to = `${formatMoney(last.balance, currency)} on ${formatTime(last.day, "date")}`;
  return `Balance from ${from} to ${to}; lowest ${formatMoney(low, currency)}, highest ${formatMoney(high, currency)}. The table has all days.`;
}
