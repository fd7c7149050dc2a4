// The gateway: its clients, its pools, and how long things take.

import { chart } from "./chart.js";
import { poolKey } from "./store.js";
import { rate, say, seconds, table } from "./text.js";

const panel = document.getElementById("gateway");
/** More pools than this are no help to anybody; the busiest come first. */
const MOST = 50;
const WORDS = { active: "at work", in_transaction: "in a transaction", waiting: "waiting for a connection", idle: "idle", login: "logging in" };

const charts = panel.querySelector(".charts");
const drawings = [
  chart(charts, "Transactions", [
    ["half take at most", (sample) => sample.gateway?.p50],
    ["95 of 100 take at most", (sample) => sample.gateway?.p95],
  ], seconds, 0.001),
  chart(charts, "Waiting for a connection", [["95 of 100 wait at most", (sample) => sample.gateway?.wait]], seconds, 0.001),
  chart(charts, "Statements", [["all nodes", (sample) => sample.gateway?.queries]], rate, 10),
];

export function drawGateway(state) {
  const gateway = state.overview?.gateway;
  panel.hidden = !gateway;
  if (!gateway) return;
  const clients = Object.keys(WORDS).filter((what) => gateway.clients[what]).map((what) => `${gateway.clients[what]} ${WORDS[what]}`);
  say(panel.querySelector(".facts"), `Clients: ${clients.join(", ") || "none"}.`);
  for (const draw of drawings) draw(state.samples);
  const now = state.samples.at(-1)?.gateway?.pools ?? {};
  const pools = gateway.pools
    .map((pool) => ({ pool, lately: now[poolKey(pool)] }))
    .sort((a, b) => (b.lately?.queries ?? 0) - (a.lately?.queries ?? 0));
  const left = pools.length - MOST;
  const heads = [
    ["Node"], ["Database"], ["User"], ["At work", true], ["Free", true], ["Statements", true],
    ["Transaction, 50 %", true], ["95 %", true], ["Wait, 95 %", true], ["Errors", true],
  ];
  const rows = pools.slice(0, MOST).map(({ pool, lately }) => [
    pool.node, pool.database, pool.user, String(pool.servers.active), String(pool.servers.idle), rate(lately?.queries),
    seconds(lately?.p50), seconds(lately?.p95), seconds(lately?.wait), String(pool.totals.errors),
  ]);
  const caption = pools.length === 0 ? "No pools yet: no client has used one" : `Pools, the last two seconds${left > 0 ? `; ${left} more are not shown` : ""}`;
  table(panel.querySelector("table"), caption, heads, rows);
}
