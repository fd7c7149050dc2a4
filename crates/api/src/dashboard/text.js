// Making elements and words. Everything shown goes through here, as text: names and errors come from other machines.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children. Children are elements or text; null and false are left out. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for pictures. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Makes the children of `parent` those, and touches none that is the same already: what somebody has selected stays. */
export function show(parent, children) {
  const wanted = children.filter(Boolean);
  wanted.forEach((child, index) => {
    const held = parent.childNodes[index];
    if (!held) parent.append(child);
    else if (!held.isEqualNode(child)) held.replaceWith(child);
  });
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

/** Sets a text, if it is another one. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** 1024 → "1 kB". */
export function bytes(number) {
  if (number === null || number === undefined) return "–";
  let size = number;
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${round(size)} ${UNITS[unit]}`;
}

/** 0.0021 → "2.1 ms", 75 → "1 min 15 s". */
export function seconds(number) {
  if (number === null || number === undefined) return "–";
  if (number <= 0) return "0 s";
  if (number < 0.001) return `${round(number * 1e6)} µs`;
  if (number < 1) return `${round(number * 1000)} ms`;
  if (number < 60) return `${round(number)} s`;
  const whole = Math.floor(number);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** How often in a second. */
export function rate(number) {
  return number === null || number === undefined ? "–" : `${round(number)}/s`;
}

/** Three digits at most, and no more than are there. */
export function round(number) {
  if (number >= 100 || Number.isInteger(number)) return String(Math.round(number));
  return String(Number(number.toPrecision(number >= 10 ? 3 : 2)));
}

/** "a", "a and b", "a, b and c". */
export function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** "1 node", "2 nodes". */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** The time of day of a moment, for a person. */
export function clock(at) {
  return new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

/** A table: heads are `[text, is number]`, rows are lists of cells. On a phone each row is a card with its heads inside. */
export function table(target, caption, heads, rows) {
  const head = el("tr", {}, heads.map(([text, number]) => el("th", { scope: "col", class: number && "number" }, text)));
  const body = rows.map((cells) =>
    el("tr", {}, cells.map((cell, index) => {
      const [text, number] = heads[index];
      return el(index ? "td" : "th", { scope: !index && "row", class: number && "number", "data-head": text }, cell);
    })),
  );
  show(target, [el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, body)]);
}
