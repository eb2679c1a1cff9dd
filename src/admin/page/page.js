// The admin page: draws the samples that the server sends as events. Data from clients, such as file
// names, is inserted as text only, never as HTML.
"use strict";

const SPAN_SECONDS = 180;
const MAX_ROWS = 200;
/** After this time without an event the connection counts as lost. Events are sent each second. */
const TIMEOUT_MILLISECONDS = 5000;
const RETRY_MILLISECONDS = 2000;
const CERTIFICATES_MILLISECONDS = 60_000;
const COLORS = 8;
const SVG = "http://www.w3.org/2000/svg";

const PHASES = {
  bound: ["ending", "Starting"],
  serving: ["fine", "Serving"],
  leaving: ["ending", "Serving; shutdown announced"],
  draining: ["ending", "Shutting down: finishing requests"],
  ended: ["ending", "Stopped"],
};

const LIMITS = {
  client: "The client or its network",
  disk: "Reading from disk",
  handler: "The request handler",
  server: "The server, busy with other transfers",
  bandwidth: "The bandwidth limit of the client or connection",
};

const find = (selector) => document.querySelector(selector);

// State

/** The samples of the last minutes, oldest first. */
const samples = [];
const rows = new Map();

function onSample(sample) {
  samples.push(sample);
  while (samples[0].time < sample.time - SPAN_SECONDS - 2) samples.shift();
  const [state, words] = PHASES[sample.phase] ?? ["waiting", sample.phase];
  const silent = sample.workers.filter((worker) => !worker.answers).length;
  if (silent > 0) setStatus("lost", `${silent} of ${sample.workers.length} event loops not responding`);
  else setStatus(state, words);
  document.body.classList.remove("lost");
  showNumbers(sample);
  showPlots();
  showTransfers(sample);
}

function setStatus(state, words) {
  const status = find("#status");
  status.dataset.state = state;
  // Set only on a change, because screen readers announce it.
  if (status.textContent !== words) status.textContent = words;
}

function showNumbers(sample) {
  const rates = sample.rates;
  const connections = Object.values(sample.connections).reduce((sum, count) => sum + count, 0);
  const rate = sample.transfers.reduce((sum, transfer) => sum + transfer.rate, 0);
  const numbers = {
    requests: rates ? count(rates.requests) : "–",
    median: time(rates?.median),
    p99: time(rates?.p99),
    lag: rates ? time(Math.max(...sample.workers.map((worker) => worker.lag))) : "–",
    rate: `${bytes(rate)}/s`,
    connections: count(connections),
  };
  for (const [name, text] of Object.entries(numbers)) {
    find(`[data-number=${name}]`).textContent = text;
  }
}

// Plots

function showPlots() {
  plot("requests", "Requests per second", count, [
    { name: "", value: (sample) => sample.rates?.requests, filled: true },
  ]);
  plot("latency", "Latency", time, [
    { name: "median", value: (sample) => sample.rates?.median },
    { name: "p99", value: (sample) => sample.rates?.p99 },
  ]);
  const workers = samples.at(-1).workers.length;
  const lags = Array.from({ length: workers }, (_, at) => ({
    name: `loop ${at}`,
    // The first sample covers more than a second.
    value: (sample) => sample.rates && sample.workers[at]?.lag,
  }));
  plot("lag", "Event loop lag", time, lags);
}

function plot(name, title, format, series) {
  const svg = find(`[data-plot=${name}]`);
  const width = svg.clientWidth || 400;
  const height = svg.clientHeight || 144;
  const [left, right, top, bottom] = [52, width - 4, 8, height - 18];
  const now = samples.at(-1).time;
  const known = series.flatMap((one) => samples.map(one.value)).filter(Number.isFinite);
  const max = roundUp(Math.max(...known, 0));
  const x = (at) => right - ((now - at) / SPAN_SECONDS) * (right - left);
  const y = (value) => bottom - (value / max) * (bottom - top);

  const parts = [];
  for (const share of [0, 0.5, 1]) {
    const at = y(max * share);
    parts.push(node("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    const attributes = { x: left - 6, y: at + 4, "text-anchor": "end" };
    parts.push(node("text", attributes, format(max * share)));
  }
  parts.push(node("text", { x: left, y: height - 3 }, `${SPAN_SECONDS / 60} minutes ago`));
  parts.push(node("text", { x: right, y: height - 3, "text-anchor": "end" }, "now"));
  series.forEach((one, at) => {
    for (const line of lines(one.value)) {
      const points = line.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`);
      const color = `c${at % COLORS}`;
      if (one.filled) {
        const ends = [`${x(line.at(-1)[0])},${bottom}`, `${x(line[0][0])},${bottom}`];
        parts.push(node("polygon", { class: `area ${color}`, points: [...points, ...ends].join(" ") }));
      }
      parts.push(node("polyline", { class: `curve ${color}`, points: points.join(" ") }));
    }
  });
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts);

  const last = series.map((one) => [one.name, one.value(samples.at(-1))]);
  const description = last.map(([name, value]) => `${name} ${format(value)}`.trim()).join(", ");
  svg.setAttribute("aria-label", `${title}, now ${description}; the scale ends at ${format(max)}`);
  if (series.length > 1 && series.length <= COLORS) showLegend(name, last, format);
}

function showLegend(name, last, format) {
  const entries = last.map(([name, value], at) => {
    const entry = document.createElement("span");
    const mark = document.createElement("i");
    mark.className = `c${at % COLORS}`;
    entry.append(mark, `${name} ${format(value)}`);
    return entry;
  });
  find(`[data-legend=${name}]`).replaceChildren(...entries);
}

/** Returns the line segments between gaps, as arrays of [time, value]. */
function lines(value) {
  const segments = [];
  let previous = -Infinity;
  for (const sample of samples) {
    const found = value(sample);
    if (!Number.isFinite(found)) continue;
    if (sample.time - previous > 3) segments.push([]);
    segments.at(-1).push([sample.time, found]);
    previous = sample.time;
  }
  return segments;
}

/** Returns the smallest of 1, 2, 5, 10, 20, … that is not below `value`. */
function roundUp(value) {
  if (!(value > 0)) return 1e-3;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

function node(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// Transfers

function showTransfers(sample) {
  const shown = sample.transfers.slice(0, MAX_ROWS);
  const body = find("#transfers");
  const seen = new Set();
  for (const transfer of shown) {
    seen.add(transfer.id);
    let row = rows.get(transfer.id);
    if (!row) {
      row = newRow(transfer);
      rows.set(transfer.id, row);
      body.append(row.element);
    }
    row.update(transfer);
  }
  for (const [id, row] of rows) {
    if (seen.has(id)) continue;
    row.element.remove();
    rows.delete(id);
  }
  const all = sample.transfers.length + sample.transfers_left_out;
  find("#transfers-count").textContent = all > 0 ? `(${all})` : "";
  find("#nothing").hidden = all > 0;
  find("#more").hidden = all <= shown.length;
  find("#more").textContent = `${all - shown.length} more not shown.`;
}

function newRow(transfer) {
  const element = document.createElement("tr");
  const cell = (className) => {
    const cell = document.createElement("td");
    cell.className = className;
    element.append(cell);
    return cell;
  };
  cell("client").textContent = transfer.client;

  const file = cell("file");
  const direction = document.createElement("span");
  direction.className = "direction";
  direction.textContent = transfer.upload ? "↑ " : "↓ ";
  direction.title = `${transfer.method} ${transfer.upload ? "upload" : "download"}`;
  // Isolates right-to-left text from the rest of the row.
  const name = document.createElement("bdi");
  name.textContent = readable(transfer.target);
  file.title = transfer.target;
  file.append(direction, name);

  const progress = cell("progress");
  const bar = document.createElement("progress");
  bar.setAttribute("aria-label", "Transfer progress");
  const amount = document.createElement("span");
  progress.append(bar, amount);
  const rate = cell("number");
  const left = cell("number");
  const limit = document.createElement("span");
  limit.className = "limit";
  cell("").append(limit);

  const update = (transfer) => {
    if (transfer.total === null) {
      bar.removeAttribute("value");
      amount.textContent = bytes(transfer.moved);
    } else {
      bar.max = Math.max(transfer.total, 1);
      bar.value = transfer.moved;
      const share = Math.floor((100 * transfer.moved) / Math.max(transfer.total, 1));
      amount.textContent = `${bytes(transfer.moved)} of ${bytes(transfer.total)}, ${share} %`;
    }
    rate.textContent = `${bytes(transfer.rate)}/s`;
    left.textContent = transfer.left === null ? "–" : clock(transfer.left);
    limit.dataset.limit = transfer.limit;
    limit.textContent = transfer.limit;
    limit.title = LIMITS[transfer.limit] ?? "";
  };
  return { element, update };
}

/** Returns the decoded path of a target, without control characters. */
function readable(target) {
  const path = target.split("?")[0];
  let text = path;
  try {
    text = decodeURIComponent(path);
  } catch {
    // Not UTF-8: shown as received.
  }
  return text.replace(/\p{Cc}/gu, "\uFFFD");
}

// Certificates

async function showCertificates() {
  let certificates;
  try {
    certificates = await (await fetch("certificates.json")).json();
  } catch {
    // The status says that the server does not respond; the last lines stay.
    return;
  }
  const lines = certificates.map((certificate) => {
    const line = document.createElement("li");
    line.textContent = certificateLine(certificate);
    const isLate = certificate.not_after === null || certificate.not_after * 1000 < Date.now();
    line.classList.toggle("late", isLate || certificate.last_error !== null);
    return line;
  });
  find("#certificates").replaceChildren(...lines);
  find("#certificates").hidden = lines.length === 0;
}

function certificateLine({ name, not_after, renew_at, next_attempt, last_error }) {
  const parts = [not_after === null ? "no certificate yet" : `valid until ${date(not_after)}`];
  if (renew_at !== null) parts.push(`renewed from ${date(renew_at)}`);
  if (last_error !== null) parts.push(`failed at ${date(last_error.at)}: ${last_error.message}`);
  if (next_attempt !== null) parts.push(`next attempt at ${date(next_attempt)}`);
  return `${name}: ${parts.join("; ")}`;
}

function date(seconds) {
  return new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
}

// Numbers

function count(value) {
  if (!Number.isFinite(value)) return "–";
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (value >= 1e4) return `${(value / 1e3).toPrecision(3)} k`;
  return value < 10 && value % 1 !== 0 ? value.toFixed(1) : Math.round(value).toString();
}

function time(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds === 0) return "0";
  if (seconds < 1e-3) return `${short(seconds * 1e6)} µs`;
  if (seconds < 1) return `${short(seconds * 1e3)} ms`;
  return `${short(seconds)} s`;
}

function short(value) {
  return value < 10 && value % 1 !== 0 ? value.toFixed(1) : Math.round(value).toString();
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit > 0 && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

function clock(seconds) {
  const whole = Math.ceil(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  if (hours >= 100) return "days";
  if (hours > 0) return `${hours}:${two(minutes)}:${two(whole % 60)}`;
  return `${minutes}:${two(whole % 60)}`;
}

// Event source

function listen() {
  const events = new EventSource("events");
  let timeout;
  const onDisconnect = () => {
    clearTimeout(timeout);
    document.body.classList.add("lost");
    setStatus("lost", "Disconnected; reconnecting …");
  };
  const reconnect = () => {
    events.close();
    onDisconnect();
    setTimeout(listen, RETRY_MILLISECONDS);
  };
  events.onmessage = (event) => {
    clearTimeout(timeout);
    timeout = setTimeout(reconnect, TIMEOUT_MILLISECONDS);
    onSample(JSON.parse(event.data));
  };
  // The browser reconnects by itself, unless the response was not an event stream.
  events.onerror = () => (events.readyState === EventSource.CLOSED ? reconnect() : onDisconnect());
}

addEventListener("resize", () => samples.length > 0 && showPlots());
listen();
showCertificates();
setInterval(showCertificates, CERTIFICATES_MILLISECONDS);
