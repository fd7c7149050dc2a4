// What happened, the newest first, in words.

import { bytes, clock, count, el, list, seconds, show } from "./text.js";

const shown = document.querySelector("#events ol");
const NONE = "Nothing since this Herdsman was started.";

export function drawEvents(state) {
  if (state.events.length === 0) {
    show(shown, [el("li", { class: "faint" }, NONE)]);
    return;
  }
  show(shown, state.events.map((event, index) => {
    const [look, text, why] = words(event, state.events.slice(index + 1));
    const time = el("time", { datetime: event.at, title: new Date(event.at).toLocaleString() }, clock(event.at));
    return el("li", { "data-look": look }, time, el("span", {}, text, why ? el("small", {}, why) : null));
  }));
}

function words(event, before) {
  const { node, reason } = event;
  switch (event.event) {
    case "primary": {
      const last = event.previous ?? before.find((one) => one.event === "primary")?.node;
      const after = last && last !== node ? `, after ${last}` : "";
      return ["good", `${node} is the primary on timeline ${event.timeline}${after}`, reason];
    }
    case "no_primary":
      if (event.why === "mesh") return ["good", "A mesh: its members take writes each on their own", ""];
      return ["bad", `No proven primary${event.previous ? `; it was ${event.previous}` : ""}`, reason];
    case "split_brain":
      return ["bad", `Split brain: ${list(event.claimants)} claim to be the primary`, reason];
    case "node_up":
      return ["fine", `${node} answers; it is ${what(event.role)}`, ""];
    case "node_down":
      return ["bad", `${node} does not answer`, reason];
    case "role":
      return ["fine", `${node} is ${what(event.role)}, was ${what(event.previous)}`, ""];
    case "readable":
      return ["fine", `${node} may be read`, ""];
    case "unreadable":
      return ["warn", `${node} may not be read`, reason];
    case "fenced":
      return ["bad", `${node} is fenced: an old primary that must not be used`, ""];
    case "unfenced":
      return ["fine", `${node} is not fenced any more`, ""];
    case "lag":
      return ["warn", `${node} is too far behind ${event.source ?? "the primary"}: ${bytes(event.bytes)}, ${seconds(event.seconds)}`, ""];
    case "lag_over":
      return ["fine", `${node} is not far behind ${event.source ?? "the primary"} any more`, ""];
    case "conflict":
      return ["warn", `${node} has recorded ${count(event.conflicts, "conflict")}`, ""];
    default:
      // A newer server than this page: better its word than none.
      return ["fine", [event.event, node].filter(Boolean).join(" "), reason];
  }
}

function what(role) {
  return { primary: "a primary", standby: "a standby" }[role] ?? "not to be used";
}
