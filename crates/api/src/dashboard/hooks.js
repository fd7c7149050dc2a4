// Hooks: who is told when the herd changes, and whether that works. Why it does not is in the log: it may be a program's last words.

import { clock, table } from "./text.js";

const panel = document.getElementById("hooks");

export function drawHooks(state) {
  const hooks = state.overview?.hooks;
  panel.hidden = !hooks?.length;
  if (panel.hidden) return;
  const heads = [["Hook"], ["What"], ["State"], ["Done", true], ["Failed", true], ["Waiting", true], ["Not told", true], ["Last run"]];
  const rows = hooks.map(({ name, kind, state, runs, waiting, dropped, last }) => [
    name, kind, STATES[state] ?? state, String(runs.succeeded), String(runs.failed + runs.timed_out), String(waiting),
    String(dropped), last ? `${clock(last.at)}, ${last.outcome.replaceAll("_", " ")}` : "never",
  ]);
  table(panel.querySelector("table"), "Hooks, since each was started", heads, rows);
}

const STATES = { idle: "nothing to do", running: "runs", failing: "fails, and is tried again" };
