// The mesh: how far every member is with what every other wrote, and the conflicts there were.

import { ask } from "./source.js";
import { bytes, count, el, say, seconds, show, table } from "./text.js";

const panel = document.getElementById("mesh");
const told = document.getElementById("conflicts-told");
/** How long the members may take, in milliseconds: they are servers, and not this program's memory. */
const MEMBERS = 30_000;
let asking = false;
/** Behind by more than this many seconds is worth a look, and by more than that many is trouble. */
const [LATE, VERY_LATE] = [5, 60];

export function beginMesh() {
  document.getElementById("conflicts-ask").addEventListener("click", conflicts);
}

export function drawMesh(state) {
  const mesh = state.overview?.mesh;
  panel.hidden = !mesh;
  if (!mesh) return;
  const targets = Object.entries(mesh.targets);
  const sources = [...new Set(targets.flatMap(([, target]) => Object.keys(target.links)))].sort();
  const all = targets.reduce((sum, [, target]) => sum + target.conflicts, 0);
  say(panel.querySelector(".facts"), `“${mesh.mesh}”: ${count(targets.length, "member")}, ${count(all, "conflict")} since this Herdsman was started.`);
  const head = el("tr", {}, el("th", { scope: "col" }, "Written on ↓, applied on →"), targets.map(([name]) => el("th", { scope: "col" }, name)));
  const rows = sources.map((source) => el("tr", {}, el("th", { scope: "row" }, source), targets.map(([name, target]) => cell(source, name, target.links[source]))));
  const line = (label, value) => el("tr", { class: "sum" }, el("th", { scope: "row" }, label), targets.map(([, target]) => el("td", {}, value(target))));
  const sums = [
    line("state", (target) => target.state),
    line("rows a second", (target) => target.rows_per_second.toFixed(1)),
    line("conflicts", (target) => String(target.conflicts)),
  ];
  show(panel.querySelector(".matrix"), [
    el("caption", {}, "How far each member is behind with what each other wrote"),
    el("thead", {}, head),
    el("tbody", {}, rows, sums),
  ]);
}

function cell(source, target, link) {
  if (!link) return el("td", { class: "faint" }, "–");
  const behind = link.lag_seconds;
  const streams = link.state === "streaming";
  const look = !streams || behind > VERY_LATE ? "bad" : behind > LATE ? "warn" : source === target ? "unknown" : "fine";
  const words = streams ? seconds(behind) : `${link.state}, ${seconds(behind)}`;
  return el("td", { "data-look": look, title: link.problem ?? "" }, words, el("small", {}, bytes(link.lag_bytes)));
}

/** Asked for by hand only: the servers are asked, and rows are shown. One question at a time. */
async function conflicts() {
  if (asking) return;
  asking = true;
  say(told, "asking the members …");
  try {
    const found = await ask("v2/mesh/conflicts?limit=20", "The list of conflicts", MEMBERS);
    say(told, found.length ? "" : "There are none.");
    const heads = [["When (UTC)"], ["Member"], ["Table"], ["Key"], ["What met"], ["Stayed"], ["Why"]];
    const rows = found.map((one) => [one.at, one.member, one.table, JSON.stringify(one.key), one.kind.replaceAll("_", " and "), stayed(one), one.why]);
    table(document.getElementById("conflicts"), "The last conflicts, the newest last", heads, rows);
  } catch (error) {
    say(told, `Conflicts show rows, so not everybody may see them: ${error.message}`);
  } finally {
    asking = false;
  }
}

function stayed({ winner, held, arriving }) {
  const side = winner === "held" ? held : arriving;
  const what = side.row === null ? "the deletion" : JSON.stringify(side.row);
  return side.node ? `${what} of ${side.node}` : what;
}
