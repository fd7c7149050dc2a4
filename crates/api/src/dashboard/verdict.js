// The one thing that must be clear at a glance: is there a proven primary, who, and if not, why.

import { HERD } from "./source.js";
import { count, list, say, el, show, clock, seconds } from "./text.js";

const banner = document.getElementById("verdict");
const troubles = document.getElementById("troubles");
const SIGNS = { good: "✓", bad: "✕", split: "⚠", mesh: "⇄", waiting: "…", lost: "?" };

export function drawVerdict(state) {
  const told = state.overview ? words(state) : { look: "waiting", title: "Looking at the herd", why: "", facts: "" };
  if (state.problem && (!state.overview || isOld(state))) {
    // Old news must not look like news.
    told.title = state.overview ? `No contact with Herdsman; last known: ${told.title}` : "No contact with Herdsman";
    told.why = `${state.problem}. What is shown below may be wrong by now.`;
    told.look = "lost";
  }
  if (state.hidden.has(HERD)) {
    Object.assign(told, { look: "lost", title: "The herd is hidden", why: "This server shows it to those who have a token.", facts: "" });
  }
  if (banner.dataset.state !== told.look) banner.dataset.state = told.look;
  say(banner.querySelector(".sign"), SIGNS[told.look]);
  say(banner.querySelector("h2"), told.title);
  say(banner.querySelector(".why"), told.why);
  say(banner.querySelector(".facts"), told.facts);
  document.title = `${SIGNS[told.look]} ${told.title} – Herdsman`;
  drawTroubles(state);
}

/** Two polls that failed are no accident. */
function isOld(state) {
  return performance.now() - state.at > 5000;
}

function words(state) {
  const { verdict, nodes, term } = state.overview.topology;
  const all = Object.values(nodes);
  const up = all.filter((node) => !node.error && node.evidence_age_seconds !== null).length;
  const readable = all.filter((node) => node.readable && node.role === "standby").length;
  const answering = `${up} of ${count(all.length, "node")} answer${up === 1 ? "s" : ""}`;
  const facts = `${answering}; ${count(readable, "standby")} may be read`;
  switch (verdict.state) {
    case "primary":
      return {
        look: "good",
        title: `${verdict.node} is the primary`,
        why: `Proven: ${verdict.reason}.`,
        facts: [facts, `timeline ${verdict.timeline}`, `term ${term}`, since(state, "primary")].filter(Boolean).join(" · "),
      };
    case "split_brain":
      return {
        look: "split",
        title: `Split brain: ${list(verdict.claimants)} claim to be the primary`,
        why: `Nobody is handed out for writes: ${verdict.reason}.`,
        facts: [facts, since(state, "split_brain")].filter(Boolean).join(" · "),
      };
    default:
      break;
  }
  if (verdict.why === "mesh") {
    const writers = all.filter((node) => node.member && node.role === "primary").length;
    const look = writers === all.length ? "mesh" : "bad";
    return { look, title: `A mesh: ${writers} of ${count(all.length, "member")} take writes`, why: "", facts: answering };
  }
  if (verdict.why === "starting") {
    return { look: "waiting", title: "Looking at the herd", why: verdict.reason, facts: answering };
  }
  return {
    look: "bad",
    title: "No proven primary",
    why: `Nobody may be written to: ${verdict.reason}.`,
    facts: [facts, since(state, "no_primary")].filter(Boolean).join(" · "),
  };
}

function since(state, kind) {
  const event = state.events.find((one) => ["primary", "no_primary", "split_brain"].includes(one.event));
  return event?.event === kind ? `since ${clock(event.at)}` : "";
}

function drawTroubles(state) {
  const found = state.overview ? [...nodeTroubles(state), ...partTroubles(state.overview)] : [];
  troubles.hidden = found.length === 0;
  const items = found.map(([who, what]) => el("li", {}, el("b", {}, who), `: ${what}`));
  show(troubles.querySelector("ul"), items);
}

function nodeTroubles(state) {
  return Object.entries(state.overview.topology.nodes).flatMap(([name, node]) => {
    const what = trouble(node);
    return what ? [[name, what]] : [];
  });
}

/** What is wrong with a node, in words; nothing where it does what it should. */
export function trouble(node) {
  const reasons = node.reasons.join("; ");
  if (node.foreign) return `belongs to another cluster${reasons && `: ${reasons}`}`;
  if (node.fenced) return `fenced: an old primary that must not be used${reasons && `: ${reasons}`}`;
  if (node.error) return `does not answer: ${node.error}`;
  if (node.role === "unavailable") return reasons || "nothing has been heard of it yet";
  if (node.role === "standby" && !node.readable) return `may not be read: ${reasons || "the reason is not known"}`;
  return reasons || (node.lag_alarm ? "far behind (watch.lag_alarm)" : "");
}

function partTroubles({ stream, mesh, ledger, hooks }) {
  const found = [];
  if (stream?.problem) found.push(["stream", `${stream.problem}; it is tried again`]);
  if (stream?.state?.why) found.push(["stream", `waits: ${stream.state.why}`]);
  for (const sink of stream?.numbers?.sinks ?? []) {
    if (sink.dead_letters) found.push([`sink ${sink.name}`, `${count(sink.dead_letters, "change")} became dead letters`]);
  }
  if (mesh?.problem) found.push(["mesh", mesh.problem]);
  for (const [name, target] of Object.entries(mesh?.targets ?? {})) {
    if (target.problem) found.push([`mesh, ${name}`, target.problem]);
  }
  if (ledger && ledger.end === null) found.push(["ledger", "its log cannot be asked where it ends"]);
  for (const { name, state } of ledger?.nodes ?? []) {
    if (state === "fenced") found.push([`ledger, ${name}`, "fenced: it holds something else than the log made of it, and may not go on"]);
    if (state === "troubled") found.push([`ledger, ${name}`, "cannot follow the log, and tries again; herdsman ledger status says why"]);
  }
  for (const { name, state } of hooks ?? []) {
    if (state === "failing") found.push([`hook ${name}`, "its last run failed, and it is tried again; the log says why"]);
  }
  return found;
}

/** How old what a node told is. */
export function age(node) {
  return node.evidence_age_seconds === null ? "never" : `${seconds(node.evidence_age_seconds)} ago`;
}
