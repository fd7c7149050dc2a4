// The ledger: how far each database is in the one log.

import { seconds, table } from "./text.js";

const panel = document.getElementById("ledger");

export function drawLedger(state) {
  const ledger = state.overview?.ledger;
  panel.hidden = !ledger;
  if (!ledger) return;
  const heads = [["Node"], ["Database"], ["State"], ["Entry", true], ["Entries behind", true], ["Behind", true], ["Committed", true], ["Lost to others", true]];
  const rows = ledger.nodes.map(({ name, engine, state, applied, lag_entries, lag_seconds, transactions }) => [
    name, engine, STATES[state] ?? state, String(applied), lag_entries === null ? "–" : String(lag_entries), seconds(lag_seconds),
    String(transactions.committed), String(transactions.conflict),
  ]);
  const end = ledger.end === null ? "which cannot be asked now" : `which ends before entry ${ledger.end}`;
  table(panel.querySelector("table"), `How far each node is in the log, ${end}`, heads, rows);
}

const STATES = { following: "follows", fenced: "fenced: it may not go on", troubled: "cannot follow now" };
