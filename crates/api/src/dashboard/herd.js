// The picture of the herd: a card for each node, lines from who is followed to who follows, and what moves along them.

import { spark } from "./chart.js";
import { family, layout } from "./layout.js";
import { bytes, count, el, round, say, seconds, show, svg } from "./text.js";
import { age, trouble } from "./verdict.js";

const picture = document.getElementById("picture");
const details = document.getElementById("details");
const legend = document.getElementById("legend");
const lines = svg("svg", { "aria-hidden": "true" });
const bar = el("div", { class: "bar" });
const cards = new Map();
let chosen = null;
let drawn = null;

export function beginHerd(redraw) {
  picture.append(lines, bar);
  drawn = redraw;
  new ResizeObserver(() => redraw()).observe(picture);
  picture.addEventListener("keydown", walk);
}

export function drawHerd(state) {
  if (!state.overview) return;
  const { topology, gateway } = state.overview;
  const now = state.samples.at(-1);
  const herd = family(topology, state.followed);
  const place = layout(herd, picture.clientWidth, Boolean(gateway));
  for (const [name, card] of cards) {
    if (place.boxes.has(name)) continue;
    card.remove();
    cards.delete(name);
  }
  for (const [name, box] of place.boxes) drawCard(name, box, state);
  sort(herd.order);
  if (!cards.has(chosen)) chosen = null;
  const stop = chosen ?? herd.order[0];
  if (!picture.contains(document.activeElement)) for (const [name, card] of cards) card.tabIndex = name === stop ? 0 : -1;
  picture.style.height = `${place.height}px`;
  bar.hidden = !place.bar;
  if (place.bar) {
    move(bar, place.bar);
    const clients = Object.values(gateway.clients).reduce((sum, number) => sum + number, 0);
    say(bar, `Gateway: ${count(clients, "client")}, ${round(now?.gateway?.queries ?? 0)} statements/s`);
  }
  drawLines(place, state, now);
  drawDetails(state);
}

/** The keyboard and screen readers go by the order of the elements: who is followed before those that follow. */
function sort(order) {
  const held = [...picture.querySelectorAll(".card")].map((card) => card.dataset.node);
  if (held.join("\n") === order.join("\n")) return;
  const focused = document.activeElement;
  picture.append(...order.map((name) => cards.get(name)));
  if (picture.contains(focused)) focused.focus();
}

function drawLines(place, state, now) {
  lines.setAttribute("height", place.height);
  lines.setAttribute("width", picture.clientWidth);
  const wanted = [
    ...place.taps.flatMap(({ to, path }) => {
      const traffic = now?.gateway?.nodes[to];
      return traffic ? [svg("path", { d: path, class: `tap ${pace(traffic.bytes)}` })] : [];
    }),
    ...place.lines.map(({ from, path, lost }) => {
      const flow = lost ? "lost" : pace(now?.nodes[from]?.log);
      return svg("path", { d: path, class: `follows ${flow}`, "marker-end": "url(#tip)" });
    }),
  ];
  const tip = svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" });
  tip.append(svg("path", { d: "M0 0L8 4L0 8Z" }));
  show(lines, [svg("defs", {}, tip), ...wanted]);
  const notes = ["Arrows lead from a node to those that follow it, and move while its log grows."];
  if (place.lines.some((line) => line.lost)) notes.push("Dashed: it was followed when last heard.");
  if (place.taps.length) notes.push("Blue: clients of the gateway.");
  say(legend, notes.join(" "));
}

/** How fast a line moves: by orders of magnitude of bytes a second. */
function pace(number) {
  if (!number) return "still";
  if (number < 10_000) return "slow";
  return number < 1_000_000 ? "brisk" : "fast";
}

function drawCard(name, box, state) {
  let card = cards.get(name);
  if (!card) {
    card = el("button", { type: "button", class: "card", "data-node": name, "aria-controls": "details" });
    card.addEventListener("click", () => choose(chosen === name ? null : name));
    cards.set(name, card);
    picture.append(card);
  }
  const node = state.overview.topology.nodes[name];
  const [look, word] = role(name, node, state.overview.topology);
  const traffic = state.samples.at(-1)?.gateway?.nodes[name];
  const facts = fact(name, node, state);
  const lags = state.samples.map((sample) => sample.nodes[name]?.lag ?? null).slice(-60);
  card.dataset.look = look;
  card.setAttribute("aria-pressed", String(chosen === name));
  const label = [name, word, node.follows && `follows ${node.follows}`, facts, trouble(node)].filter(Boolean).join(", ");
  card.setAttribute("aria-label", label);
  card.title = trouble(node);
  move(card, box);
  show(card, [
    el("span", { class: "name" }, name),
    el("span", { class: "badge" }, word),
    el("span", { class: "line" }, facts),
    el("span", { class: "line faint" }, traffic ? `${round(traffic.queries)} statements/s` : trouble(node) && !node.error ? trouble(node) : ""),
    node.lag ? spark(lags, 44, 18) : null,
  ]);
}

/** How a node looks and what it is called. */
export function role(name, node, { verdict }) {
  if (node.foreign) return ["bad", "other cluster"];
  if (node.fenced) return ["bad", "fenced"];
  if (verdict.state === "primary" && verdict.node === name) return ["good", "primary"];
  if (node.member && node.role === "primary") return ["good", "writer"];
  if (node.role === "primary") return ["bad", "claims primary"];
  if (node.error) return ["bad", "down"];
  if (node.role === "standby") return node.readable ? ["fine", "standby"] : ["warn", "not read"];
  return ["unknown", "not known"];
}

function fact(name, node, state) {
  if (node.error) return node.error;
  if (node.role === "standby") {
    return node.lag ? `${seconds(node.lag.seconds)} behind, ${bytes(node.lag.bytes)}` : "lag not known";
  }
  const log = state.samples.at(-1)?.nodes[name]?.log;
  return log === null || log === undefined ? `at ${node.lsn ?? "–"}` : `writes ${bytes(log)}/s of log`;
}

function move(element, { x, y, width, height }) {
  // The policy forbids styles in markup, not those set by the page's own code.
  element.style.transform = `translate(${x}px, ${y}px)`;
  element.style.width = `${width}px`;
  element.style.height = `${height}px`;
}

function choose(name) {
  chosen = name;
  drawn();
}

function walk(event) {
  const names = [...picture.querySelectorAll(".card")].map((card) => card.dataset.node);
  const at = names.indexOf(document.activeElement?.dataset?.node);
  const steps = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 };
  if (event.key === "Escape") choose(null);
  else if (at >= 0 && event.key in steps) {
    event.preventDefault();
    const next = cards.get(names[(steps[event.key] + names.length) % names.length]);
    for (const card of cards.values()) card.tabIndex = card === next ? 0 : -1;
    next.focus();
  }
}

function drawDetails(state) {
  const node = state.overview.topology.nodes[chosen];
  if (!node) {
    show(details, [el("p", { class: "faint" }, "Choose a node to see all that is known of it.")]);
    return;
  }
  const { topology, gateway } = state.overview;
  const groups = Object.entries(topology.groups).filter(([, nodes]) => nodes.includes(chosen)).map(([name]) => name);
  const pools = (gateway?.pools ?? []).filter((pool) => pool.node === chosen);
  const servers = (state) => pools.reduce((sum, pool) => sum + pool.servers[state], 0);
  const facts = [
    ["Is", role(chosen, node, topology)[1]],
    ["Wrong", trouble(node)],
    ["Follows", node.follows],
    ["Behind", node.lag && `${seconds(node.lag.seconds)}, ${bytes(node.lag.bytes)}`],
    ["Answers in", node.latency_seconds === null || node.latency_seconds === undefined ? null : seconds(node.latency_seconds)],
    ["May be read", node.readable ? "yes" : "no"],
    ["Timeline", node.timeline],
    ["Position", node.lsn],
    ["Last heard", age(node)],
    ["PostgreSQL", version(node.server_version)],
    ["System", node.system_id],
    ["Groups", groups.join(", ")],
    ["Gateway", pools.length && `${servers("active")} connections at work, ${servers("idle")} free`],
  ];
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== 0);
  show(details, [
    el("h3", {}, chosen),
    el("dl", {}, known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])),
  ]);
}

function version(number) {
  if (!number) return null;
  return `${Math.floor(number / 10_000)}.${number % 10_000}`;
}
