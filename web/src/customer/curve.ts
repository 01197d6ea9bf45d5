/** Draw the balance of past days with uPlot; loaded when the first curve is shown. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { decimalsOf, formatMoney } from "../money";
import { formatTime } from "../time";

export interface Point {
  day: string;
  balance: string;
}

const HEIGHT = 200;
const FONT = "12px system-ui, sans-serif";
const DAY_S = 86_400;

const colour = (of: Element, token: string): string => getComputedStyle(of).getPropertyValue(token).trim() || "#888";

/**
 * Draw the curve into an element; it follows width and theme until the function given back is called.
 *
 * Only pixels are made of a fraction here: what is read off, in words, comes from the balances as they are.
 */
export function drawCurve(place: HTMLElement, points: Point[], currency: string, told: (point: Point | null) => void): () => void {
  const plot = new uPlot(options(place, points, told), series(points, currency), place);
  const width = new ResizeObserver(() => plot.setSize({ width: Math.max(place.clientWidth, 200), height: HEIGHT }));
  width.observe(place);
  const repaint = () => plot.redraw(false, true);
  const theme = new MutationObserver(repaint);
  theme.observe(document.documentElement, { attributes: true });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", repaint);
  return () => {
    width.disconnect();
    theme.disconnect();
    scheme.removeEventListener("change", repaint);
    plot.destroy();
  };
}

function series(points: Point[], currency: string): uPlot.AlignedData {
  const scale = 10 ** decimalsOf(currency);
  return [
    points.map((point) => Date.parse(point.day) / 1000),
    points.map((point) => Number(point.balance) / scale),
  ];
}

function options(place: HTMLElement, points: Point[], told: (point: Point | null) => void): uPlot.Options {
  const axis: uPlot.Axis = { stroke: () => colour(place, "--chart-text"), ticks: { show: false }, font: FONT };
  const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
  const line = () => colour(place, "--chart-line");
  return {
    width: Math.max(place.clientWidth, 200),
    height: HEIGHT,
    padding: [12, 8, 0, 0],
    legend: { show: false },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: {
      x: true,
      y: false,
      drag: { x: false, y: false },
      points: { size: 9, fill: line, stroke: () => line(), width: 2 },
    },
    scales: { x: { time: true }, y: { range: (_plot, low, high) => bounds(low, high) } },
    axes: [
      {
        ...axis,
        grid: { show: false },
        space: 80,
        incrs: [DAY_S, 2 * DAY_S, 7 * DAY_S, 14 * DAY_S, 30 * DAY_S, 61 * DAY_S, 91 * DAY_S],
        values: (_plot, ticks) => ticks.map((tick) => formatTime(new Date(tick * 1000).toISOString().slice(0, 10), "day")),
      },
      {
        ...axis,
        grid: { stroke: () => colour(place, "--chart-grid"), width: 1 },
        size: 56,
        space: 44,
        values: (_plot, ticks) => ticks.map((tick) => short.format(tick)),
      },
    ],
    series: [
      {},
      {
        stroke: line,
        fill: () => colour(place, "--chart-fill"),
        width: 2,
        ...(uPlot.paths.stepped ? { paths: uPlot.paths.stepped({ align: 1 }) } : {}),
        points: { show: false },
      },
    ],
    hooks: { setCursor: [(plot) => told(plot.cursor.idx == null ? null : (points[plot.cursor.idx] ?? null))] },
  };
}

// A line that never moves would lie on the axis; an empty account's is drawn above zero.
function bounds(low: number, high: number): [number, number] {
  const span = high - low || Math.abs(high) || 1;
  return [low >= 0 ? Math.max(0, low - span * 0.2) : low - span * 0.1, high + span * 0.15];
}

/** Say one point in words. */
export const pointWords = (point: Point, currency: string): string =>
  `${formatTime(point.day, "date")}: ${formatMoney(point.balance, currency)}`;
