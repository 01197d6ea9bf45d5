/** Draw one line over time with uPlot, which is loaded when the first chart is shown. */

import type uPlot from "uplot";

export interface Series {
  /** Seconds since 1970, rising. */
  times: number[];
  /** One for each time; null leaves a gap in the line. */
  values: (number | null)[];
  /** Times at which a node took over. */
  failovers: number[];
}

export interface Chart {
  show(series: Series): void;
  end(): void;
}

const HEIGHT = 168;
const FONT = "12px system-ui, sans-serif";

const plotter = () => import("uplot").then((module) => module.default);

function colour(of: Element, token: string): string {
  return getComputedStyle(of).getPropertyValue(token).trim() || "#888";
}

/** Mark each failover with a dashed line and a word above it, so that it is not told by a colour alone. */
function failoverMarks(place: Element, marks: () => number[]): uPlot.Plugin {
  const draw = (plot: uPlot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour(place, "--chart-mark");
    ctx.lineWidth = devicePixelRatio;
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const time of marks()) {
      const x = plot.valToPos(time, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.textAlign = x > bbox.left + bbox.width / 2 ? "right" : "left";
      ctx.fillText("failover", x + (ctx.textAlign === "right" ? -5 : 5) * devicePixelRatio, bbox.top + 11 * devicePixelRatio);
    }
    ctx.restore();
  };
  return { hooks: { draw } };
}

function options(place: HTMLElement, unit: string, marks: () => number[]): uPlot.Options {
  const axis: uPlot.Axis = {
    stroke: () => colour(place, "--chart-text"),
    grid: { stroke: () => colour(place, "--chart-grid"), width: 1 },
    ticks: { show: false },
    font: FONT,
  };
  const whole = (value: number) => value.toLocaleString(undefined, { maximumFractionDigits: 1 });
  return {
    width: Math.max(place.clientWidth, 200),
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: true, range: overAMinute }, y: { range: (_plot, _low, high) => [0, Math.max(high * 1.15, 1)] } },
    axes: [
      { ...axis, size: 30, space: 70, values: (_plot, ticks) => ticks.map(clock) },
      { ...axis, size: 56, space: 32, values: (_plot, ticks) => ticks.map((tick) => (tick === 0 ? "0" : `${whole(tick)}${unit}`)) },
    ],
    series: [
      {},
      {
        stroke: () => colour(place, "--chart-line"),
        fill: () => colour(place, "--chart-fill"),
        width: 1.75,
        points: { show: false },
        spanGaps: false,
      },
    ],
    plugins: [failoverMarks(place, marks)],
  };
}

/** Give the times that are shown, at least a minute of them: over less, the axis would say the same time again and again. */
function overAMinute(_plot: uPlot, low: number | null, high: number | null): uPlot.Range.MinMax {
  const end = high ?? Date.now() / 1000;
  return [Math.min(low ?? end, end - 60), end];
}

/** Write a time of day, in the reader's own zone. */
export function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/** Begin a chart inside an element; it follows the element's width and the theme's colours until it ends. */
export async function beginChart(place: HTMLElement, unit: string, first: Series): Promise<Chart> {
  const Plot = await plotter();
  let shown = first;
  const plot = new Plot(options(place, unit, () => shown.failovers), [first.times, first.values], place);
  const width = new ResizeObserver(() => plot.setSize({ width: Math.max(place.clientWidth, 200), height: HEIGHT }));
  width.observe(place);
  const repaint = () => plot.redraw(false, true);
  const theme = new MutationObserver(repaint);
  theme.observe(document.documentElement, { attributes: true });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", repaint);
  return {
    show(series) {
      shown = series;
      plot.setData([series.times, series.values]);
    },
    end() {
      width.disconnect();
      theme.disconnect();
      scheme.removeEventListener("change", repaint);
      plot.destroy();
    },
  };
}
