// The stream of changes: where it reads, what waits, and what each sink has taken.

import { chart } from "./chart.js";
import { bytes, clock, count, say, seconds, table } from "./text.js";

const panel = document.getElementById("stream");
const draw = chart(panel.querySelector(".charts"), "Log not yet delivered", [["behind", (sample) => sample.stream]], bytes, 1024);

export function drawStream(state) {
  const stream = state.overview?.stream;
  panel.hidden = !stream;
  if (!stream) return;
  const numbers = stream.numbers;
  const facts = [`Slot ${stream.slot}: ${phase(stream)}.`];
  if (numbers) {
    facts.push(`${bytes(numbers.lag_bytes)} behind; ${count(numbers.received, "change")} in ${count(numbers.transactions, "transaction")} received.`);
    if (numbers.paused) facts.push("Reading has stopped until sinks have taken what waits.");
  }
  say(panel.querySelector(".facts"), facts.join(" "));
  draw(state.samples);
  const heads = [["Sink"], ["State"], ["Delivered", true], ["Waiting", true], ["Failed", true], ["Dead letters", true], ["On average", true], ["Last failed"]];
  const rows = (numbers?.sinks ?? []).map((sink) => [
    sink.name, sink.open ? "open" : "not open", String(sink.delivered), String(sink.waiting_changes), String(sink.failed),
    String(sink.dead_letters), sink.latency.count ? seconds(sink.latency.sum_micros / sink.latency.count / 1e6) : "–",
    sink.last_error_at ? `${clock(sink.last_error_at * 1000)}; the log says why` : "never",
  ]);
  table(panel.querySelector("table"), "Sinks, since the stream began", heads, rows);
}

function phase({ state, problem }) {
  switch (state?.phase) {
    case "streaming":
      return `reads from ${state.node} on timeline ${state.timeline}`;
    case "snapshot":
      return `copies what the tables of ${state.node} hold`;
    case "waiting":
      return `cannot read now: ${state.why}`;
    case "starting":
      return "is starting";
    default:
      return problem ? `has ended: ${problem}` : "has ended";
  }
}
