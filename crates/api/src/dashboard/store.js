// What is known, and the numbers of the last minutes. Rates and percentiles are made here, from two overviews.

/** Samples kept: five minutes. */
const KEPT = 150;
/** Events kept. */
const EVENTS = 300;

export const state = {
  /** The last overview; null before the first. */
  overview: null,
  /** When that came. */
  at: 0,
  /** Why there is no newer one, if there is none. */
  problem: null,
  /** By what is not shown for want of a token: what the server said. */
  hidden: new Map(),
  /** Whether events arrive. */
  following: false,
  /** The newest first. */
  events: [],
  /** The oldest first. */
  samples: [],
  /** By node, whom it followed when that was last known. */
  followed: new Map(),
};

const listeners = new Set();
/** The overview that the last sample was made of. */
let base = null;
let pending = false;

/** Calls back after every change, once for those that come together. */
export function onChange(listener) {
  listeners.add(listener);
}

export function changed() {
  if (pending) return;
  pending = true;
  // Not an animation frame: in a tab nobody looks at there are none, and its title has to be right all the same.
  setTimeout(() => {
    pending = false;
    for (const listener of listeners) listener(state);
  }, 0);
}

export function takeOverview(overview) {
  const now = performance.now();
  const before = base;
  const passed = (now - state.at) / 1000;
  state.overview = overview;
  state.problem = null;
  remember(overview.topology.nodes);
  // Two that follow each other at once, after an event, say nothing of rates.
  if (!before || passed > 0.5) {
    state.samples.push(sample(overview, before && passed < 30 ? before : null, passed));
    if (state.samples.length > KEPT) state.samples.shift();
    base = overview;
    state.at = now;
  }
  changed();
}

export function takeEvent(event) {
  if (state.events.some((known) => known.id === event.id)) return;
  state.events.unshift(event);
  if (state.events.length > EVENTS) state.events.pop();
  changed();
}

export function lost(problem) {
  state.problem = problem;
  changed();
}

export function refused(what, why) {
  state.hidden.set(what, why);
  changed();
}

export function shown(what) {
  if (state.hidden.delete(what)) changed();
}

export function following(is) {
  state.following = is;
  changed();
}

function remember(nodes) {
  for (const [name, node] of Object.entries(nodes)) {
    if (node.follows) state.followed.set(name, node.follows);
    else if (node.role === "primary") state.followed.delete(name);
  }
}

function sample(overview, before, passed) {
  const nodes = {};
  for (const [name, node] of Object.entries(overview.topology.nodes)) {
    const then = before?.topology.nodes[name]?.lsn;
    const written = node.lsn && then ? position(node.lsn) - position(then) : null;
    nodes[name] = { lag: node.lag?.seconds ?? null, log: written !== null && written >= 0 ? written / passed : null };
  }
  return {
    at: Date.now(),
    nodes,
    gateway: overview.gateway && gateway(overview.gateway, before?.gateway, passed),
    stream: overview.stream?.numbers?.lag_bytes ?? null,
  };
}

/** "1/2A" → a number of bytes. */
function position(lsn) {
  const [high, low] = String(lsn).split("/").map((half) => Number.parseInt(half, 16));
  return high * 2 ** 32 + low;
}

export function poolKey(pool) {
  return JSON.stringify([pool.database, pool.user, pool.node]);
}

/** What the gateway did between two overviews: by pool, by node, and together. */
function gateway(now, before, passed) {
  const old = new Map((before?.pools ?? []).map((pool) => [poolKey(pool), pool]));
  const pools = {};
  const nodes = {};
  const all = { transaction: new Map(), wait: new Map() };
  for (const pool of now.pools) {
    const then = old.get(poolKey(pool));
    if (!before) continue;
    const since = (read) => Math.max(0, read(pool) - (then ? read(then) : 0));
    const transaction = between(pool.transaction, then?.transaction);
    const wait = between(pool.wait, then?.wait);
    const queries = since((one) => one.totals.queries) / passed;
    pools[poolKey(pool)] = { queries, p50: quantile(transaction, 0.5), p95: quantile(transaction, 0.95), wait: quantile(wait, 0.95) };
    const node = (nodes[pool.node] ??= { queries: 0, bytes: 0, active: 0 });
    node.queries += queries;
    node.bytes += since((one) => one.totals.sent + one.totals.received) / passed;
    node.active += pool.servers.active;
    add(all.transaction, transaction);
    add(all.wait, wait);
  }
  return {
    pools,
    nodes,
    queries: Object.values(nodes).reduce((sum, node) => sum + node.queries, 0),
    p50: quantile(all.transaction, 0.5),
    p95: quantile(all.transaction, 0.95),
    wait: quantile(all.wait, 0.95),
  };
}

/** Counts by bound (in µs; infinity for what took longer than the last) of what was counted since `then`. */
function between(times, then) {
  const old = new Map(then?.at_most ?? []);
  const counts = new Map();
  let below = 0;
  for (const [bound, within] of [...(times.at_most ?? []), [Infinity, times.count]]) {
    const cumulated = within - (bound === Infinity ? (then?.count ?? 0) : (old.get(bound) ?? 0));
    counts.set(bound, Math.max(0, cumulated - below));
    below = cumulated;
  }
  return counts;
}

function add(to, counts) {
  for (const [bound, number] of counts) to.set(bound, (to.get(bound) ?? 0) + number);
}

/** How many seconds the share `q` took at most: exact to the bounds, in between as if times were spread evenly. */
export function quantile(counts, q) {
  const whole = [...counts.values()].reduce((sum, number) => sum + number, 0);
  if (!whole) return null;
  let seen = 0;
  let from = 0;
  for (const [bound, number] of counts) {
    if (number && seen + number >= q * whole) {
      const to = bound === Infinity ? from : bound;
      return (from + ((to - from) * (q * whole - seen)) / number) / 1e6;
    }
    seen += number;
    if (bound !== Infinity) from = bound;
  }
  return from / 1e6;
}
