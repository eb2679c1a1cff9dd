
{
  const { make, say, can, reasonOf, refresh } = window.listing;
  const PARALLEL = 3;
  const section = document.querySelector("#upload");
  const form = section.querySelector("form");

  const size = (bytes) => {
    if (bytes < 1024) return `${bytes} B`;
    let at = -1;
    do {
      bytes /= 1024;
      at++;
    } while (bytes >= 1023.95 && at < 4);
    return `${bytes.toFixed(1)} ${["KiB", "MiB", "GiB", "TiB", "PiB"][at]}`;
  };
  const duration = (seconds) => {
    if (!Number.isFinite(seconds)) return "";
    if (seconds < 60) return `${Math.ceil(seconds)} s left`;
    const minutes = Math.ceil(seconds / 60);
    return minutes < 60 ? `${minutes} min left` : `${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
  };
  // True if the same request may succeed later: after a login, or when its folder has been created.
  const mayPass = (status) => (status < 500 ? [401, 408, 409, 425, 429].includes(status) : status !== 501);
  const button = (textContent, onclick) => make("button", { type: "button", textContent, onclick });

  const list = make("ul", { className: "jobs", ariaLabel: "Uploads" });
  const jobs = [];
  const of = (state) => jobs.filter((job) => job.state === state);
  const counts = make("span");
  // True if the file is neither stored nor given up.
  const isOpen = (job) => ["sending", "waiting", "asking"].includes(job.state);
  const clear = button("Clear list", () => {
    for (const job of jobs.filter((job) => !isOpen(job))) job.remove();
  });
  const stop = button("Cancel all", () => {
    for (const job of [...of("waiting"), ...of("sending"), ...of("asking")]) job.cancel();
  });
  const summary = make("div", { className: "summary", hidden: true, tabIndex: -1 }, counts, stop, clear);
  // The states in which jobs have ended since the last message.
  const ended = new Set();

  // One file on its way. Its states: waiting, sending, asking, done, failed, skipped, cancelled.
  // A batch is what was dropped or selected at once: a choice for all is one for the files of a batch.
  class Job {
    constructor(file, path, batch) {
      Object.assign(this, { file, path, batch, state: "waiting", mode: "new", copies: 1 });
      this.bar = make("progress", { max: Math.max(file.size, 1), value: 0, ariaLabel: `Progress of ${path}` });
      this.text = make("span");
      this.actions = make("div");
      this.title = make("b", { textContent: path });
      this.row = make("li", { tabIndex: -1 }, this.title, this.actions, this.bar, this.text);
      list.append(this.row);
      jobs.push(this);
      this.show("waiting", `Waiting, ${size(file.size)}`, button("Cancel", () => this.cancel()));
    }

    show(state, text, ...actions) {
      this.state = state;
      this.text.textContent = text;
      this.text.className = state;
      if (["done", "failed"].includes(state)) ended.add(state);
      this.bar.hidden = !["waiting", "sending"].includes(state);
      const keepFocus = this.actions.contains(document.activeElement);
      this.actions.replaceChildren(...actions);
      // Not to a button of another file: that would be pressed by a second Enter for this one.
      if (keepFocus) (actions[0] ?? this.row).focus();
    }

    // The name under which the file is stored: with a number if both are kept.
    get target() {
      if (this.mode !== "both") return this.path;
      const [, stem, extension] = /^(.*?[^/])(\.[^./]*)?$/.exec(this.path);
      return `${stem} (${this.copies})${extension ?? ""}`;
    }

    send() {
      const request = new XMLHttpRequest();
      this.request = request;
      this.show("sending", "Starting", button("Cancel", () => this.cancel()));
      // The rate of the last seconds: [time, bytes].
      const started = performance.now();
      const samples = [[started, 0]];
      request.upload.onprogress = (event) => {
        const now = performance.now();
        this.bar.value = event.loaded;
        samples.push([now, event.loaded]);
        while (samples.length > 2 && now - samples[0][0] > 4000) samples.shift();
        const [since, from] = samples[0];
        const rate = ((event.loaded - from) / (now - since)) * 1000;
        // At first the system's buffers are filled.
        const isKnown = rate > 0 && now - started > 1000;
        const left = isKnown && duration((this.file.size - event.loaded) / rate);
        const shown = [`${size(event.loaded)} of ${size(this.file.size)}`, isKnown && `${size(rate)}/s`, left];
        this.text.textContent =
          event.loaded < this.file.size ? shown.filter(Boolean).join(", ") : "Storing on the server";
      };
      request.onload = () => this.answered(request);
      request.onerror = () => this.broken(request);
      request.onabort = () => next();
      const url = this.target.split("/").map(encodeURIComponent).join("/");
      request.open("PUT", `./${url}`);
      request.setRequestHeader("Accept", "application/json");
      if (this.mode !== "replace") request.setRequestHeader("If-None-Match", "*");
      request.send(this.file);
    }

    answered(request) {
      if (request.status >= 200 && request.status < 300) {
        const stored = this.target === this.path ? "" : ` as ${this.target}`;
        const verb = request.status === 204 ? "Replaced" : "Uploaded";
        this.show("done", `${verb}${stored}, ${size(this.file.size)}`);
        return next();
      }
      if (request.status === 412 && this.mode === "both" && this.copies < 1000) {
        this.copies++;
        return this.send();
      }
      // A choice that has been made has no effect on the next request.
      if (request.status === 412 && this.mode === "new") {
        if (this.batch.choice) return this.choose(this.batch.choice);
        return this.ask();
      }
      this.fail(reasonOf(request, request.responseText), mayPass(request.status));
    }

    // The connection was lost, or the file was changed or deleted since it was selected: browsers report both alike.
    async broken(request) {
      const isReadable = await this.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
      if (this.request !== request || this.state !== "sending") return;
      this.fail(isReadable ? "The connection was lost" : "The file cannot be read any more; choose it again", isReadable);
    }

    fail(reason, mayRetry) {
      const retry = mayRetry ? [button("Retry", () => this.retry())] : [];
      this.show("failed", reason, ...retry, button("Remove", () => this.remove()));
      next();
    }

    ask() {
      const all = make("input", { type: "checkbox" });
      const choice = (label, value) =>
        button(label, () => {
          const { batch } = this;
          if (all.checked) {
            batch.choice = value;
            for (const job of jobs) if (job.batch === batch && job.state === "asking") job.choose(value);
          } else this.choose(value);
        });
      const choices = [choice("Keep both", "both"), choice("Skip", "skip")];
      // Last: the focus goes to the first.
      if (can("overwrite")) choices.push(choice("Replace", "replace"));
      this.show("asking", `There is a file of this name`, ...choices, make("label", {}, all, " for all added with it"));
      say(`${this.path} exists already: choose what to do`);
      next();
    }

    choose(value) {
      if (value === "skip") {
        this.show("skipped", "Skipped", button("Choose again", () => this.again()));
        return next();
      }
      this.mode = value;
      this.retry();
    }

    again() {
      this.batch.choice = undefined;
      this.mode = "new";
      this.ask();
    }

    retry() {
      this.bar.value = 0;
      this.show("waiting", "Waiting", button("Cancel", () => this.cancel()));
      next();
    }

    cancel() {
      const { request } = this;
      this.show("cancelled", "Cancelled", button("Retry", () => this.retry()), button("Remove", () => this.remove()));
      request?.abort();
      next();
    }

    remove() {
      const near = this.row.nextElementSibling ?? this.row.previousElementSibling;
      const hadFocus = this.row.contains(document.activeElement);
      this.row.remove();
      jobs.splice(jobs.indexOf(this), 1);
      next();
      if (hadFocus) (near ?? pick).focus();
    }
  }

  const next = () => {
    while (of("sending").length < PARALLEL) {
      const job = of("waiting")[0];
      if (!job) break;
      job.send();
    }
    const [failed, active] = [of("failed").length, of("sending").length + of("waiting").length];
    const focused = document.activeElement;
    counts.textContent = `${of("done").length} of ${jobs.length} uploaded${failed ? `, ${failed} failed` : ""}`;
    summary.hidden = !jobs.length;
    stop.hidden = !jobs.some(isOpen);
    clear.hidden = !stop.hidden;
    if (summary.contains(focused) && focused.closest("[hidden]")) (summary.hidden ? pick : summary).focus();
    if (active || !ended.size) return;
    if (ended.has("done")) refresh();
    say(counts.textContent);
    ended.clear();
  };

  // Shows why something is not sent.
  const refuse = (path, reason) => {
    const job = new Job(new File([], path), path);
    job.show("failed", reason, button("Remove", () => job.remove()));
  };
  const add = (file, path, batch) => {
    if (!path.includes("/") || can("parents")) new Job(file, path, batch);
    else refuse(path, "This server creates no folders for uploads (--upload-parents allows it)");
  };
  // Folders that are dropped are read entry by entry. What cannot be read does not keep the rest from being sent.
  const walk = async (entry, path, batch) => {
    try {
      if (entry.isFile) return add(await new Promise((resolve, reject) => entry.file(resolve, reject)), path, batch);
      const reader = entry.createReader();
      for (let isEmpty = true; ; isEmpty = false) {
        const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!entries.length) return isEmpty && refuse(`${path}/`, "Empty folders are not uploaded");
        for (const inner of entries) await walk(inner, `${path}/${inner.name}`, batch);
      }
    } catch (error) {
      refuse(path, `Cannot be read: ${error.message}`);
    }
  };

  const choose = (properties) => {
    const input = make("input", { type: "file", multiple: true, hidden: true, ...properties });
    input.addEventListener("change", () => {
      const batch = {};
      for (const file of input.files) add(file, file.webkitRelativePath || file.name, batch);
      input.value = "";
      next();
    });
    return input;
  };
  const files = choose({ id: "files" });
  const folder = choose({ id: "folder", webkitdirectory: true });
  const pick = button("Choose files", () => files.click());
  const area = make(
    "div",
    { className: "drop" },
    make("p", { textContent: "Drop files and folders here, or" }),
    make("div", {}, pick, button("Choose a folder", () => folder.click())),
    files,
    folder,
  );
  form.replaceWith(area, summary, list);

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    area.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? area.classList.remove("over"));
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    area.classList.remove("over");
    const batch = {};
    const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    // The items are gone after the event. What a page drops is a file without an entry.
    const dropped = items.map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
    for (const [entry, file] of dropped) {
      if (entry) await walk(entry, entry.name, batch);
      else if (file) add(file, file.name, batch);
    }
    next();
  });
  addEventListener("beforeunload", (event) => {
    if (jobs.some(isOpen)) event.preventDefault();
  });
}
