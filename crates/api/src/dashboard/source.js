// Asking the server: the overview every two seconds and after each event, and the events as they happen.

import { following, lost, refused, shown, takeEvent, takeOverview } from "./store.js";

const PERIOD = 2000;
/** An answer comes from memory: who waits longer is not answered at all. */
const PATIENCE = 5000;
/** The server says something every 15 s. */
const SILENCE = 40_000;
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15_000;
/** The longest event that is waited for to its end. */
const LONGEST_EVENT = 1 << 20;
const KEY = "herdsman-token";

// Relative to this file, so that it works below any path of a proxy.
const place = (path) => new URL(`../${path}`, import.meta.url);

let token = null;
try {
  token = sessionStorage.getItem(KEY);
} catch {
  // A browser that keeps nothing: in memory, then.
}

/** What the overview is called where it is refused. */
export const HERD = "The herd";

export function hasToken() {
  return token !== null;
}

/** Uses a token from now on, or none. */
export function useToken(other) {
  token = other;
  try {
    if (other === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, other);
  } catch {
    // As above.
  }
  poll();
}

/** Asks for a document; `what` is what it shows. Refusals are errors that say what the server said. */
export async function ask(path, what, patience = PATIENCE) {
  const response = await fetch(place(path), request(AbortSignal.timeout(patience)));
  if (response.status === 401 || response.status === 403) refused(what, await told(response));
  else shown(what);
  await check(response);
  return response.json();
}

function request(signal, more = {}) {
  const headers = { ...more, ...(token === null ? {} : { authorization: `Bearer ${token}` }) };
  return { headers, signal, cache: "no-store", credentials: "same-origin", redirect: "error" };
}

async function check(response) {
  if (!response.ok) throw new Error(await told(response));
}

async function told(response) {
  try {
    return (await response.clone().json()).error.message;
  } catch {
    // Somebody else's answer, a proxy's: its status has to do.
    return `${response.status} ${response.statusText}`;
  }
}

let timer = 0;
let asking = false;
let again = false;

/** Asks for the overview now, and from then on every period. */
async function poll() {
  if (asking) {
    again = true;
    return;
  }
  clearTimeout(timer);
  asking = true;
  try {
    takeOverview(await ask("v2/overview", HERD));
  } catch (error) {
    lost(error.name === "TimeoutError" ? "it does not answer" : error.message);
  }
  asking = false;
  const pause = again ? 0 : document.hidden ? 5 * PERIOD : PERIOD;
  again = false;
  timer = setTimeout(poll, pause);
}

/** Follows the events for ever; after a break from where it was. */
async function follow() {
  // What no server ever gave: it answers with everything it has kept.
  let last = "the beginning";
  let pause = FIRST_PAUSE;
  for (;;) {
    const ender = new AbortController();
    let alarm = setTimeout(() => ender.abort(), SILENCE);
    try {
      const response = await fetch(place("v2/events"), request(ender.signal, { "last-event-id": last }));
      await check(response);
      following(true);
      poll();
      for await (const event of events(response.body, () => {
        clearTimeout(alarm);
        alarm = setTimeout(() => ender.abort(), SILENCE);
      })) {
        pause = FIRST_PAUSE;
        if (event.id) last = event.id;
        if (event.kind === "message") takeEvent(JSON.parse(event.data));
        poll();
      }
    } catch {
      // The next answer to a poll says what is wrong.
    }
    clearTimeout(alarm);
    ender.abort();
    following(false);
    await new Promise((done) => setTimeout(done, pause * (0.5 + Math.random())));
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
}

/** Server-sent events of a body. `EventSource` would do, but it cannot send a token. */
async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    held += value;
    if (held.length > LONGEST_EVENT) return;
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      const event = { kind: "message", id: null, data: "" };
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        const value = line.slice(colon + 1).replace(/^ /, "");
        if (line.startsWith("data:")) event.data += value;
        else if (line.startsWith("id:")) event.id = value;
        else if (line.startsWith("event:")) event.kind = value;
      }
      if (event.data) yield event;
    }
  }
}

export function begin() {
  document.addEventListener("visibilitychange", () => document.hidden || poll());
  poll();
  follow();
}
