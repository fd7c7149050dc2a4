// Puts the parts together: what is known goes to each of them whenever it changes.

import { drawEvents } from "./events.js";
import { drawGateway } from "./gateway.js";
import { beginHerd, drawHerd } from "./herd.js";
import { drawHooks } from "./hooks.js";
import { drawLedger } from "./ledger.js";
import { beginMesh, drawMesh } from "./mesh.js";
import { begin, hasToken, useToken } from "./source.js";
import { changed, onChange, state } from "./store.js";
import { drawStream } from "./stream.js";
import { say, seconds } from "./text.js";
import { drawVerdict } from "./verdict.js";

const parts = [drawVerdict, drawHerd, drawEvents, drawGateway, drawStream, drawMesh, drawLedger, drawHooks, drawContact, drawToken];

function drawContact() {
  const contact = document.getElementById("contact");
  const age = (performance.now() - state.at) / 1000;
  const [look, words] = state.problem
    ? ["lost", state.overview ? `no contact for ${seconds(Math.round(age))}` : "no contact"]
    : !state.overview ? ["waiting", "connecting …"]
    : state.following ? ["live", "live"] : ["waiting", "asks every two seconds; events do not arrive"];
  contact.dataset.state = look;
  say(contact, words);
  if (state.overview) say(document.getElementById("version"), state.overview.version);
}

function drawToken() {
  const form = document.getElementById("token");
  form.hidden = state.hidden.size === 0;
  const why = [...state.hidden].map(([what, why]) => `${what} is ${hasToken() ? "hidden from this token" : "hidden"}: ${why}.`);
  say(document.getElementById("token-why"), why.join(" "));
  document.getElementById("token-forget").hidden = !hasToken();
}

function beginToken() {
  const form = document.getElementById("token");
  const field = document.getElementById("token-field");
  const use = (token) => {
    field.value = "";
    state.hidden.clear();
    useToken(token);
    changed();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    use(field.value);
  });
  document.getElementById("token-forget").addEventListener("click", () => use(null));
}

const THEMES = { auto: "auto", light: "light", dark: "dark" };

function beginTheme() {
  const button = document.getElementById("theme");
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    say(button, `Colours: ${THEMES[theme]}`);
    try {
      localStorage.setItem("herdsman-theme", theme);
    } catch {
      // Then it is for this visit.
    }
  };
  let kept = null;
  try {
    kept = localStorage.getItem("herdsman-theme");
  } catch {
    // As above.
  }
  if (kept in THEMES) set(kept);
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    set(names[(names.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % names.length]);
  });
}

onChange(() => {
  for (const draw of parts) draw(state);
});
beginTheme();
beginToken();
beginMesh();
beginHerd(changed);
begin();
// Ages grow while nothing comes.
setInterval(() => state.problem && changed(), 1000);
