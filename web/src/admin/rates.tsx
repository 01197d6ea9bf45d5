/** Rate and latency of the last ten minutes as charts, with a table that says the same. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Button, type Column } from "../components";
import { None } from "./parts";
import { Rows } from "./rows";
import { beginChart, clock, type Chart, type Series } from "./chart";
import type { Event, Sample } from "./types";

const TABLE_STEP = 30;

const secondsOf = (sample: Sample): number => Date.parse(sample.time) / 1000;

const TAKEOVERS: readonly string[] = ["takeover", "switch", "forced"];

/** Times within the samples at which another node became primary; a term rises for other reasons, too. */
export function failoversOf(samples: Sample[], events: Event[]): number[] {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last) return [];
  return events
    .filter((event) => TAKEOVERS.includes(event.event))
    .map((event) => Date.parse(event.time) / 1000)
    .filter((time) => time >= secondsOf(first) && time <= secondsOf(last));
}

type Read = (sample: Sample) => number | null;

export function seriesOf(samples: Sample[], failovers: number[], read: Read): Series {
  return { times: samples.map(secondsOf), values: samples.map(read), failovers };
}

interface LineProps {
  name: string;
  unit: string;
  now: string;
  words: string;
  series: Series;
}

function Line({ name, unit, now, words, series }: LineProps) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  const newest = useRef(series);
  const [failed, setFailed] = useState(false);
  newest.current = series;
  useEffect(() => {
    let ended = false;
    if (place.current) {
      beginChart(place.current, unit, newest.current).then(
        (made) => {
          if (ended) return made.end();
          chart.current = made;
          made.show(newest.current);
        },
        () => setFailed(true),
      );
    }
    return () => {
      ended = true;
      chart.current?.end();
      chart.current = null;
    };
  }, [unit]);
  useEffect(() => chart.current?.show(series), [series]);
  return (
    <figure class="chart card">
      <figcaption>
        <span class="chart-name">{name}</span>
        <span class="chart-now">{now}</span>
      </figcaption>
      <div class="chart-place" ref={place} role="img" aria-label={words} />
      {failed && <p class="quiet">The chart could not be loaded. The table says the same.</p>}
    </figure>
  );
}

interface Half {
  from: number;
  entries: number;
  requests: number;
  latency: number | null;
  slowest: number | null;
  silent: number;
  failover: boolean;
}

function mean(values: number[]): number {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0;
}

/** Sum samples up in steps of half a minute, the newest first. */
export function halves(samples: Sample[], failovers: number[]): Half[] {
  const groups = new Map<number, Sample[]>();
  for (const sample of samples) {
    const from = Math.floor(secondsOf(sample) / TABLE_STEP) * TABLE_STEP;
    groups.set(from, [...(groups.get(from) ?? []), sample]);
  }
  return [...groups].reverse().map(([from, members]) => {
    const latencies = members.flatMap((sample) => (sample.latency_ms === null ? [] : [sample.latency_ms]));
    return {
      from,
      entries: mean(members.map((sample) => sample.entries_per_s)),
      requests: mean(members.map((sample) => sample.requests_per_s)),
      latency: latencies.length ? mean(latencies) : null,
      slowest: latencies.length ? Math.max(...latencies) : null,
      silent: members.length - latencies.length,
      failover: failovers.some((time) => time >= from && time < from + TABLE_STEP),
    };
  });
}

const decimal = (value: number): string => value.toLocaleString(undefined, { maximumFractionDigits: 1 });
const millis = (value: number | null): string => (value === null ? "no answer" : `${decimal(value)} ms`);

const COLUMNS: Column<Half>[] = [
  { head: "From", cell: (half) => clock(half.from) },
  { head: "Entries/s", cell: (half) => decimal(half.entries), align: "end" },
  { head: "Requests/s", cell: (half) => decimal(half.requests), align: "end" },
  { head: "Latency", cell: (half) => millis(half.latency), align: "end" },
  { head: "Slowest", cell: (half) => millis(half.slowest), align: "end" },
  { head: "Silent seconds", cell: (half) => String(half.silent), align: "end" },
  { head: "Failover", cell: (half) => (half.failover ? "Yes" : <None />) },
];

export function Rates({ samples, events }: { samples: Sample[]; events: Event[] }) {
  const [asTable, setAsTable] = useState(false);
  const last = samples.at(-1);
  const failovers = failoversOf(samples, events);
  const rate = seriesOf(samples, failovers, (sample) => sample.entries_per_s);
  const latency = seriesOf(samples, failovers, (sample) => sample.latency_ms);
  const most = (series: Series) => decimal(Math.max(0, ...series.values.map((value) => value ?? 0)));
  const marks = failovers.length;
  const also = marks ? ` ${marks} ${marks === 1 ? "failover" : "failovers"}.` : " No failover.";
  return (
    <div class="rates">
      {asTable ? (
        <Rows caption="Rate and latency in steps of half a minute" columns={COLUMNS} rows={halves(samples, failovers)} keyOf={(half) => String(half.from)} />
      ) : (
        <div class="charts">
          <Line
            name="Entries per second"
            unit=""
            now={last ? decimal(last.entries_per_s) : "–"}
            words={`Entries per second in the last ten minutes, at most ${most(rate)}.${also}`}
            series={rate}
          />
          <Line
            name="Latency of a request"
            unit=" ms"
            now={last ? millis(last.latency_ms) : "–"}
            words={`Milliseconds that a request took in the last ten minutes, at most ${most(latency)}.${also}`}
            series={latency}
          />
        </div>
      )}
      <Button small onClick={() => setAsTable(!asTable)}>
        {asTable ? "Show as charts" : "Show as table"}
      </Button>
    </div>
  );
}
