// A small line chart: a few series over the last minutes, drawn as one picture. No library: this is all that is needed.

import { clock, el, say, svg } from "./text.js";

const WIDTH = 360;
const HEIGHT = 120;
const LEFT = 52;
const BOTTOM = 18;
const TOP = 8;

/**
 * Adds a chart to `parent`. `series` are names and what each takes from a sample (null: nothing is known); `format` makes a
 * value a text; `least` is the smallest value that fills the height. Returns what draws it anew.
 */
export function chart(parent, title, series, format, least) {
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  const legend = el("figcaption");
  const names = series.map(([name], index) => {
    const value = el("b");
    const entry = el("span", { class: `series-${index}` }, `${name} `, value);
    legend.append(entry);
    return value;
  });
  parent.append(el("figure", {}, el("h3", {}, title), picture, legend));
  return (samples) => {
    const lines = series.map(([, read]) => samples.map((sample) => [sample.at, read(sample)]));
    const values = lines.flat().map(([, value]) => value).filter((value) => value !== null && value !== undefined);
    const top = ceiling(Math.max(least, ...values));
    const from = samples[0]?.at ?? 0;
    const to = samples.at(-1)?.at ?? 1;
    const x = (at) => LEFT + ((WIDTH - LEFT - 4) * (at - from)) / Math.max(1, to - from);
    const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / top;
    const grid = [0, top / 2, top].flatMap((value) => [
      svg("line", { x1: LEFT, x2: WIDTH - 4, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)),
    ]);
    const times = samples.length < 2 ? [] : [
      svg("text", { x: LEFT, y: HEIGHT - 4 }, clock(from)),
      svg("text", { x: WIDTH - 4, y: HEIGHT - 4, "text-anchor": "end" }, clock(to)),
    ];
    const drawn = lines.map((line, index) => svg("path", { d: path(line, x, y), class: `line series-${index}` }));
    picture.replaceChildren(...grid, ...times, ...drawn);
    const told = lines.map((line, index) => {
      const value = line.at(-1)?.[1];
      const text = value === null || value === undefined ? "–" : format(value);
      say(names[index], text);
      return `${series[index][0]} ${text}`;
    });
    picture.setAttribute("aria-label", `${title}: ${told.join(", ")}`);
  };
}

/** The points of a line as short as a word, without axes. */
export function spark(values, width, height) {
  const top = ceiling(Math.max(0.1, ...values.filter((value) => value !== null)));
  const x = (index) => 1 + ((width - 2) * index) / Math.max(1, values.length - 1);
  const y = (value) => height - 1 - ((height - 2) * value) / top;
  const line = values.map((value, index) => [index, value]);
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, class: "spark", "aria-hidden": "true" },
    svg("path", { d: path(line, x, y), class: "line series-0" }),
  );
}

/** Where nothing is known the line has a gap. A value alone is a dot. */
function path(line, x, y) {
  let drawn = "";
  let pen = false;
  line.forEach(([at, value], index) => {
    if (value === null || value === undefined) {
      pen = false;
      return;
    }
    const point = `${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    drawn += pen ? `L${point}` : `M${point}`;
    const next = line[index + 1]?.[1];
    if (!pen && (next === null || next === undefined)) drawn += `L${point}`;
    pen = true;
  });
  return drawn;
}

/** The next of 1, 2, 5, 10, … times a power of ten. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}
