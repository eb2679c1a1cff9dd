// The tests of the HTTP Server Test Page. Each test sends its requests with
// fetch, shows what went over the wire, and returns a list of complaints:
// an empty list means that everything was as expected.
"use strict";

const UNITS = ["bytes", "KiB", "MiB", "GiB"];
const decoder = new TextDecoder();

// ---- small helpers ------------------------------------------------------

function make(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

function size(bytes) {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(bytes < 10 ? 2 : 1) : bytes} ${UNITS[unit]}`;
}

function duration(ms) {
  return ms < 1000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

// A list of complaints that reads like prose where it is filled:
//   check.that(status === 200, `the status is ${status}, not 200`)
function checklist() {
  const complaints = [];
  return {
    complaints,
    that(condition, complaint) {
      if (!condition) complaints.push(complaint);
      return Boolean(condition);
    },
    status(reply, wanted) {
      return this.that(reply.status === wanted,
        `${reply.title}: status is ${reply.status}, not ${wanted}`);
    },
    type(reply, wanted) {
      const type = reply.headers.get("content-type") ?? "missing";
      return this.that(type.split(";")[0].trim().toLowerCase() === wanted,
        `${reply.title}: Content-Type is ${type}, not ${wanted}`);
    },
    // Content-Length must be there and agree with what arrived.
    length(reply) {
      const length = reply.headers.get("content-length");
      if (reply.headers.has("content-encoding")) return true; // unpacked by the browser
      return this.that(length !== null && Number(length) === reply.bytes.length,
        `${reply.title}: Content-Length is ${length ?? "missing"}, but ${reply.bytes.length} bytes were received`);
    },
  };
}

// ---- one request and its answer -----------------------------------------

// Sends a request, shows it in `out`, and gives back the answer with its whole
// content. Nothing comes from the cache of the browser.
async function exchange(out, method, target, { headers = {}, body, show = text, signal, read } = {}) {
  const title = `${method} ${target}`;
  const start = performance.now();
  const response = await fetch(target, { method, headers, body, signal, cache: "no-store" });
  const reply = { title, status: response.status, headers: response.headers, bytes: new Uint8Array() };
  if (!read) reply.bytes = new Uint8Array(await response.arrayBuffer());
  reply.time = performance.now() - start;
  // A download that goes on is noted when it ends.
  reply.version = version(read ? undefined : await timing(target, start));

  const badge = make("span", `status s${Math.floor(reply.status / 100)}`,
    `${reply.status} ${response.statusText}`.trim());
  const time = make("span", "time", duration(reply.time));
  const summary = make("summary", "", make("code", "", title), badge, time);
  const view = make("details", "exchange", summary);
  view.open = true;

  const sent = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const request = [`${title} ${reply.version}`, ...sent];
  if (body !== undefined) request.push("", body);
  view.append(part("Request", make("pre", "", request.join("\n"))));

  const answer = make("pre", "", `${reply.version} ${reply.status} ${response.statusText}`.trim());
  for (const [name, value] of reply.headers) answer.append("\n", make("b", "", `${name}:`), ` ${value}`);
  view.append(part("Response", answer));

  out.append(view);
  if (read) await read(response, reply, time);
  else view.append(await content(reply, show));
  return reply;
}

function part(heading, ...content) {
  return make("div", "part", make("h4", "", heading), ...content);
}

async function content(reply, show) {
  if (reply.bytes.length === 0) return part("Content: none");
  return part(`Content: ${reply.bytes.length.toLocaleString("en")} bytes`, await show(reply));
}

// The beginning of a text, in a box that the keyboard can scroll.
function text(reply, lines = 30) {
  const all = decoder.decode(reply.bytes).trimEnd().split("\n");
  const rest = all.length - lines;
  const shown = all.slice(0, lines).join("\n") + (rest > 0 ? `\n… and ${rest.toLocaleString("en")} more lines` : "");
  const isJson = reply.headers.get("content-type")?.includes("json");
  const pre = make("pre", isJson ? "preview wrapped" : "preview", shown);
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", `Content of ${reply.title}`);
  return pre;
}

// A picture, drawn from the very bytes that arrived.
async function picture(reply) {
  try {
    const type = reply.headers.get("content-type") ?? "";
    const bitmap = await createImageBitmap(new Blob([reply.bytes], { type }));
    const canvas = make("canvas", "picture");
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `The received image, ${bitmap.width} by ${bitmap.height} pixels`);
    reply.picture = bitmap;
    return canvas;
  } catch {
    return make("p", "", "The browser cannot display this image.");
  }
}

const PROTOCOLS = { "http/1.0": "HTTP/1.0", "http/1.1": "HTTP/1.1", h2: "HTTP/2", h3: "HTTP/3" };

// The version of HTTP that the browser noted for a request, or else for this page.
function version(entry) {
  const page = performance.getEntriesByType("navigation")[0];
  return PROTOCOLS[entry?.nextHopProtocol || page?.nextHopProtocol] ?? "HTTP";
}

function remark(out, sentence) {
  out.append(make("p", "remark", sentence));
}

function json(reply) {
  try {
    return JSON.parse(decoder.decode(reply.bytes));
  } catch {
    return undefined;
  }
}

// Every line of the text begins with its number and the position of its first
// byte ("00007 @0000423"). Counts the lines for which both are true.
function linesInPlace(bytes) {
  let right = 0;
  let lines = 0;
  for (let start = 0; start < bytes.length; lines += 1) {
    const head = decoder.decode(bytes.subarray(start, start + 14));
    const stated = `${String(lines + 1).padStart(5, "0")} @${String(start).padStart(7, "0")}`;
    if (head === stated) right += 1;
    const end = bytes.indexOf(10, start);
    start = end < 0 ? bytes.length : end + 1;
  }
  return { right, lines };
}

// What the browser noted about the request for this address after `since`.
async function timing(target, since) {
  const url = new URL(target, location.href).href;
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const entry = performance.getEntriesByName(url, "resource").find((one) => one.startTime >= since);
    if (entry) return entry;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return undefined;
}

// ---- the tests ----------------------------------------------------------

const tests = {
  async "get-text"(out) {
    const check = checklist();
    const reply = await exchange(out, "GET", "/bigfile");
    check.status(reply, 200);
    check.type(reply, "text/plain");
    check.length(reply);
    const { right, lines } = linesInPlace(reply.bytes);
    check.that(lines > 10000 && right === lines,
      `only ${right} of ${lines} lines are at their stated position`);
    if (right === lines) remark(out, `All ${lines.toLocaleString("en")} lines are at their stated position.`);
    return check.complaints;
  },

  async "get-image"(out) {
    const check = checklist();
    const reply = await exchange(out, "GET", "/image_user_one", { show: picture });
    check.status(reply, 200);
    check.type(reply, "image/jpeg");
    check.length(reply);
    check.that(reply.picture, "the content is not an image");
    return check.complaints;
  },

  async head(out) {
    const check = checklist();
    const reply = await exchange(out, "HEAD", "/image_user_two");
    check.status(reply, 200);
    check.type(reply, "image/jpeg");
    const length = Number(reply.headers.get("content-length"));
    check.that(length > 0, "Content-Length is missing");
    check.that(reply.bytes.length === 0, `the response to HEAD has ${reply.bytes.length} bytes of content`);
    return check.complaints;
  },

  async "not-modified"(out) {
    const check = checklist();
    const first = await exchange(out, "GET", "/bigfile");
    out.lastChild.open = false;
    check.status(first, 200);
    const etag = first.headers.get("etag");
    const modified = first.headers.get("last-modified");
    const conditions = [["If-None-Match", etag, "ETag"], ["If-Modified-Since", modified, "Last-Modified"]];
    for (const [name, value, source] of conditions) {
      if (!check.that(value, `${source} is missing`)) continue;
      const reply = await exchange(out, "GET", "/bigfile", { headers: { [name]: value } });
      check.that(reply.status === 304, `${name}: status is ${reply.status}, not 304`);
      check.that(reply.bytes.length === 0, `${name}: the response has ${reply.bytes.length} bytes of content`);
      const again = reply.headers.get("etag");
      check.that(again === null || again === etag, `${name}: the ETag changed to ${again}`);
    }
    if (check.complaints.length === 0) remark(out, `Saved 2 × ${size(first.bytes.length)}.`);
    return check.complaints;
  },

  async "bad-request"(out) {
    const check = checklist();
    const reply = await exchange(out, "GET", "/%00");
    check.status(reply, 400);
    return check.complaints;
  },

  async "not-found"(out) {
    const check = checklist();
    const reply = await exchange(out, "GET", "/no-such-page");
    check.status(reply, 404);
    check.type(reply, "text/html");
    check.length(reply);
    check.that(decoder.decode(reply.bytes).includes("Error: 404 Page Not Found"),
      "the content is not the error page of this site");
    return check.complaints;
  },

  async "keep-alive"(out) {
    const check = checklist();
    const first = await exchange(out, "GET", "/page_one", { show: (reply) => text(reply, 4) });
    const between = performance.now();
    const second = await exchange(out, "GET", "/page_two", { show: (reply) => text(reply, 4) });
    // HTTP/2 forbids these headers: its connections stay open without them (RFC 9113, section 8.2.2).
    const persistent = first.version === "HTTP/2" && second.version === "HTTP/2";
    let told = false;
    for (const reply of [first, second]) {
      check.status(reply, 200);
      check.length(reply);
      const connection = reply.headers.get("connection");
      const keep = reply.headers.get("keep-alive");
      if (persistent) {
        check.that(connection === null && keep === null, `${reply.title}: Connection or Keep-Alive over HTTP/2`);
        continue;
      }
      if (connection !== null) {
        told = true;
        check.that(connection.toLowerCase().includes("keep-alive"), `${reply.title}: Connection is ${connection}`);
      }
      if (keep !== null) check.that(/timeout=\d+/.test(keep), `${reply.title}: Keep-Alive is ${keep}`);
    }
    if (persistent) remark(out, "HTTP/2 has no Connection header: its connections stay open without it.");
    else if (!told) remark(out, "This browser hides the Connection header from pages.");

    const entry = await timing("/page_two", between);
    if (entry && entry.requestStart > 0) {
      const spent = entry.connectEnd - entry.connectStart;
      if (check.that(spent === 0, `the second request opened a new connection (${duration(spent)})`)) {
        remark(out, "The second request reused an open connection (connectStart equals connectEnd).");
      }
    } else {
      remark(out, "This browser does not report whether it reused the connection.");
      check.that(told, "no header or timing shows that the connection stayed open");
    }
    return check.complaints;
  },

  async range(out) {
    const check = checklist();
    const reply = await exchange(out, "GET", "/bigfile", { headers: { Range: "bytes=0-99" } });
    const range = reply.headers.get("content-range") ?? "missing";
    const total = /^bytes 0-99\/(\d+)$/.exec(range)?.[1];
    check.that(reply.status === 206, `status is ${reply.status}, not 206`);
    check.that(total, `Content-Range is ${range}, not bytes 0-99/…`);
    check.that(reply.bytes.length === 100, `received ${reply.bytes.length} bytes, not 100`);
    check.that(decoder.decode(reply.bytes).startsWith("00001 @0000000"), "the content is not the beginning of the text");

    const beyond = await exchange(out, "GET", "/bigfile", { headers: { Range: "bytes=999999999-" } });
    const wanted = `bytes */${total ?? "…"}`;
    const second = beyond.headers.get("content-range") ?? "missing";
    check.that(beyond.status === 416, `beyond the end: status is ${beyond.status}, not 416`);
    check.that(total ? second === wanted : /^bytes \*\/\d+$/.test(second),
      `beyond the end: Content-Range is ${second}, not ${wanted}`);
    return check.complaints;
  },

  async "big-download"(out, section) {
    const check = checklist();
    const stop = section.querySelector(".stop");
    const control = new AbortController();
    const halt = () => control.abort();
    stop.addEventListener("click", halt);
    stop.hidden = false;

    const bar = make("progress");
    bar.setAttribute("aria-label", "Progress of the download");
    const label = make("span", "rate", "Waiting for data");
    const progress = make("div", "progress", bar, label);
    progress.setAttribute("aria-live", "off"); // too many changes to be read aloud
    out.append(progress);

    let received = 0;
    let expected = null;
    try {
      await exchange(out, "GET", "/download/big.bin", {
        signal: control.signal,
        async read(response, reply, time) {
          check.status(reply, 200);
          const length = response.headers.get("content-length");
          if (check.that(Number(length) > 0, "Content-Length is missing")) {
            expected = Number(length);
            bar.max = expected;
          }
          let stray = 0;
          let painted = 0;
          const start = performance.now();
          const paint = () => {
            const now = performance.now();
            const rate = received / Math.max(now - start, 1) * 1000;
            painted = now;
            bar.value = received;
            label.textContent = `${size(received)} of ${expected ? size(expected) : "?"} at ${size(Math.round(rate))}/s`;
            time.textContent = duration(reply.time + now - start);
          };
          const reader = response.body.getReader();
          try {
            for (;;) {
              const { done, value } = await reader.read();
              if (done) break;
              received += value.length;
              for (let i = 0; i < value.length; i += 1) stray |= value[i];
              if (performance.now() - painted > 100) paint();
            }
          } finally {
            paint();
          }
          check.that(stray === 0, "not all bytes are zero");
        },
      });
      check.that(received === expected, `received ${received} bytes, not ${expected ?? "the announced length"}`);
    } catch (error) {
      check.that(false, control.signal.aborted
        ? `stopped after ${size(received)}`
        : `the download failed after ${received} bytes (${error.message})`);
    } finally {
      stop.removeEventListener("click", halt);
      stop.hidden = true;
    }
    return check.complaints;
  },

  async post(out, section) {
    const check = checklist();
    const name = section.querySelector("input").value;
    const reply = await exchange(out, "POST", "/createUser", {
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ Nombre: name }),
    });
    const user = json(reply);
    const place = reply.headers.get("location") ?? "missing";
    const id = Number(/^\/users\/(\d+)$/.exec(place)?.[1]);
    if (!check.status(reply, 201)) {
      if (user?.error) check.that(false, `server error: ${user.error}`);
      return check.complaints;
    }
    check.type(reply, "application/json");
    check.that(user?.Nombre === name, `the name in the response is ${JSON.stringify(user?.Nombre)}, not ${JSON.stringify(name)}`);
    check.that(!Number.isNaN(Date.parse(user?.created)), "the response has no valid date in “created”");
    if (!check.that(id > 0, `Location is ${place}, not /users/NUMBER`)) return check.complaints;
    check.that(user?.id === id, `the id is ${user?.id}, but Location is ${place}`);

    const found = await exchange(out, "GET", place);
    const same = json(found);
    check.status(found, 200);
    check.that(["id", "Nombre", "created"].every((key) => same?.[key] === user?.[key]),
      `${place} is a different user`);

    const after = Math.max(0, id - 5);
    const list = await exchange(out, "GET", `/users?limit=5${after ? `&after=${after}` : ""}`);
    const users = json(list);
    check.status(list, 200);
    if (check.that(Array.isArray(users), "the user list is not a JSON array")) {
      check.that(users.length <= 5, `the list has ${users.length} users, more than the limit of 5`);
      check.that(users.every((one, i) => i === 0 || users[i - 1].id < one.id), "the list is not sorted by id");
      check.that(users.some((one) => one.id === id && one.Nombre === name), "the new user is not in the list");
    }
    return check.complaints;
  },
};

// ---- running them -------------------------------------------------------

const sections = [...document.querySelectorAll(".case")];
const runAll = document.getElementById("run-all");
const tally = document.querySelector(".tally");

function mark(section, verdict) {
  section.dataset.verdict = verdict;
  document.querySelector(`.board a[href="#${section.id}"]`).dataset.verdict = verdict;
  const count = (wanted) => sections.filter((one) => one.dataset.verdict === wanted).length;
  const open = sections.length - count("pass") - count("fail");
  tally.textContent = `${count("pass")} passed, ${count("fail")} failed, ${open} left`;
}

async function run(section) {
  if (section.dataset.verdict === "running") return;
  const result = section.querySelector(".result");
  const judgement = section.querySelector(".judgement");
  const button = section.querySelector(".run");
  button.disabled = true;
  judgement.replaceChildren();
  result.replaceChildren();
  result.setAttribute("aria-busy", "true");
  mark(section, "running");

  let complaints;
  try {
    complaints = await tests[section.dataset.case](result, section);
  } catch (error) {
    complaints = [`the request failed (${error.message})`];
  }

  const passed = complaints.length === 0;
  const verdict = make("div", `verdict ${passed ? "pass" : "fail"}`);
  if (passed) verdict.append("passed");
  else verdict.append(`failed: ${complaints.join("; ")}`);
  judgement.append(verdict);
  result.removeAttribute("aria-busy");
  button.disabled = false;
  mark(section, passed ? "pass" : "fail");
}

for (const section of sections) {
  section.querySelector(".run").addEventListener("click", () => run(section));
}

document.getElementById("user-name").addEventListener("keydown", (event) => {
  if (event.key === "Enter") run(event.target.closest(".case"));
});

runAll.addEventListener("click", async () => {
  runAll.disabled = true;
  for (const section of sections) await run(section);
  runAll.disabled = false;
});

// The browser keeps only so many timings; make room for the next ones.
performance.addEventListener("resourcetimingbufferfull", () => performance.clearResourceTimings());

// ---- uploads ------------------------------------------------------------

const drop = document.querySelector(".drop");
const send = drop.querySelector(".send");
const chosen = document.getElementById("upload-files");

// Sends one file and calls `progress` with how much of it has gone. XHR, since
// fetch does not tell how far an upload is. Stopped by `signal`.
function put(file, signal, progress) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    const stop = () => xhr.abort();
    const end = (settle, value) => {
      signal.removeEventListener("abort", stop);
      settle(value);
    };
    xhr.upload.addEventListener("progress", (event) => progress(event.loaded));
    xhr.addEventListener("load", () => end(resolve, xhr));
    xhr.addEventListener("error", () => end(reject, new Error("the connection was lost")));
    xhr.addEventListener("abort", () => end(reject, new Error("stopped")));
    signal.addEventListener("abort", stop);
    xhr.open("PUT", `/${encodeURIComponent(file.name)}`);
    xhr.send(file);
  });
}

// Whether the server takes files, so that none is sent for nothing.
async function takesUploads() {
  const response = await fetch("/", { method: "OPTIONS", cache: "no-store" });
  return (response.headers.get("allow") ?? "").split(/,\s*/).includes("PUT");
}

async function uploadAll(files) {
  const stop = drop.querySelector(".stop");
  const progress = drop.querySelector(".progress");
  const [bar, label] = progress.children;
  const list = drop.querySelector(".uploaded");
  const control = new AbortController();
  const halt = () => control.abort();
  const say = (...content) => list.append(make("li", "", ...content));
  list.replaceChildren();
  send.disabled = true;
  try {
    if (files.length === 0) return say("Choose a file first.");
    if (!await takesUploads()) {
      return say("Uploads are off (405). To turn them on: ",
        make("code", "", "cargo run --release -- --upload"));
    }
    stop.addEventListener("click", halt);
    stop.hidden = false;
    progress.hidden = false;
    for (const file of files) {
      const start = performance.now();
      const paint = (sent) => {
        const rate = sent / Math.max(performance.now() - start, 1) * 1000;
        bar.max = Math.max(file.size, 1);
        bar.value = file.size ? sent : 1;
        const percent = file.size ? Math.floor(sent / file.size * 100) : 100;
        label.textContent = `${file.name}: ${percent} %, ${size(sent)} of ${size(file.size)} at ${size(Math.round(rate))}/s`;
      };
      paint(0);
      try {
        const answer = await put(file, control.signal, paint);
        const badge = make("span", `status s${Math.floor(answer.status / 100)}`, `${answer.status}`);
        if (answer.status < 300) {
          const link = make("a", "", file.name);
          link.href = answer.getResponseHeader("location") ?? `/${encodeURIComponent(file.name)}`;
          say(badge, link, `, ${size(file.size)} in ${duration(performance.now() - start)}`);
        } else {
          say(badge, `${file.name}: ${answer.responseText.trim()}`);
        }
      } catch (error) {
        say(`${file.name}: ${error.message}.`);
        if (control.signal.aborted) break;
      }
    }
  } catch (error) {
    say(`The server is not responding (${error.message}).`);
  } finally {
    stop.removeEventListener("click", halt);
    stop.hidden = true;
    progress.hidden = true;
    send.disabled = false;
  }
}

send.addEventListener("click", () => uploadAll([...chosen.files]));

for (const [type, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  drop.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", over);
    if (type === "drop" && !send.disabled) uploadAll([...event.dataTransfer.files]);
  });
}

// ---- the commands -------------------------------------------------------

// Say the address under which this page was really reached.
if (location.protocol.startsWith("http")) {
  const port = location.port || (location.protocol === "https:" ? "443" : "80");
  const host = location.hostname.replace(/^\[|\]$/g, "");
  for (const code of document.querySelectorAll(".command code")) {
    code.textContent = code.textContent
      .replaceAll("http://127.0.0.1:8000", location.origin)
      .replaceAll("nc 127.0.0.1 8000", location.protocol === "https:"
        ? `openssl s_client -quiet -connect ${location.hostname}:${port}`
        : `nc ${host} ${port}`);
  }
}

async function copy(button) {
  const code = button.closest(".command").querySelector("code");
  let done = "Copied";
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Without a secure context there is no clipboard: select, so that the
    // reader can copy.
    getSelection().selectAllChildren(code);
    done = "Selected";
  }
  button.textContent = done;
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", () => copy(button));
}
