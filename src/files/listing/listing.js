
{
  const $ = (selector) => document.querySelector(selector);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  // A key that is held presses one button only, not also those to which the focus moves.
  addEventListener("keydown", (event) => event.repeat && event.key === "Enter" && event.preventDefault());
  const features = $("main").dataset.features.split(" ");
  const can = (feature) => features.includes(feature);
  const table = $("#entries");
  // What other scripts add to the menu of an entry: [label, call] for a link.
  const extras = [];
  // Shows a message for a moment, and lets screen readers read it.
  const said = make("p", { className: "said", role: "status", hidden: true });
  document.body.append(said);
  let saidTimer;
  const say = (text) => {
    said.textContent = text;
    said.hidden = !text;
    clearTimeout(saidTimer);
    saidTimer = setTimeout(() => (said.hidden = true), 4000);
  };

  // Says why a request failed. One that is rejected before its Accept field is read gets a line of text.
  const reasonOf = ({ status, statusText }, text) => {
    let reason;
    try {
      reason = JSON.parse(text).explanation;
    } catch {
      reason = /^\d{3} .*?: (.+)\n$/.exec(text)?.[1];
    }
    return reason ?? `${status} ${statusText}`;
  };

  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const box = $(".filter");
  let filter = () => {};
  if (box) {
    const [field, count] = [box.querySelector("input"), box.querySelector("output")];
    filter = () => {
      const rows = [...table.rows];
      const words = plain(field.value).split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        row.plain ??= plain(row.cells[0].textContent);
        const match = words.every((word) => row.plain.includes(word));
        if (row.hidden === match) row.hidden = !match;
        shown += match;
      }
      count.value = words.length ? `${shown || "none"} of ${rows.length}` : "";
    };
    field.addEventListener("input", filter);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") table.querySelector("tr:not([hidden]) a")?.click();
    });
    // A browser that goes back fills the field again.
    addEventListener("pageshow", () => field.value && filter());
    box.hidden = false;
  }

  // Times become local ones, with UTC as the tooltip.
  const two = (number) => `${number}`.padStart(2, "0");
  const local = (time) => {
    const date = new Date(time.dateTime);
    time.title = `${time.textContent} UTC`;
    time.textContent =
      `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
      `${two(date.getHours())}:${two(date.getMinutes())}`;
  };
  $("#zone").textContent = "Times are local; point at one for UTC.";

  const linkOf = (row) => row.cells[0].querySelector("a");
  const shownLinks = () => [...table.rows].filter((row) => !row.hidden).map(linkOf).filter(Boolean);
  const nameOf = (link) => link.textContent;
  const copy = async (url) => {
    try {
      await navigator.clipboard.writeText(url);
    } catch {
      // Without HTTPS there is no clipboard, but the selection can be copied.
      const field = make("input", { value: url });
      (document.querySelector("dialog[open]") ?? document.body).append(field);
      field.select();
      const copied = document.execCommand("copy");
      field.remove();
      if (!copied) return prompt("Copy this link:", url);
    }
    say("Link copied");
  };

  // Previews of images and text, which only a modified click opens in the browser instead.
  const IMAGE = /\.(png|jpe?g|gif|webp|avif|svg|bmp|ico)$/i;
  const TEXT = /\.(txt|md|log|csv|tsv|json|toml|ya?ml|ini|conf|cfg|rs|js|ts|py|c|h|cpp|go|java|sh|css|sql|diff|patch)$/i;
  const MAX_TEXT = 256 * 1024;
  const isShown = (link) => !link.pathname.endsWith("/") && (IMAGE.test(link.pathname) || TEXT.test(link.pathname));
  const dialog = make("dialog", { id: "preview" });
  document.body.append(dialog);
  let current;
  const preview = async (link) => {
    current = link;
    const name = nameOf(link);
    const button = (label, call) => make("button", { type: "button", textContent: label, onclick: call });
    const content = make("div");
    dialog.ariaLabel = name;
    dialog.replaceChildren(
      make(
        "div",
        { className: "bar" },
        make("h2", { textContent: name }),
        button("Previous", () => step(-1)),
        button("Next", () => step(1)),
        button("Copy link", () => copy(link.href)),
        make("a", { href: link.href, textContent: "Open" }),
        make("a", { href: link.href, download: "", textContent: "Download" }),
        make("button", { type: "button", textContent: "Close", autofocus: true, onclick: () => dialog.close() }),
      ),
      content,
    );
    if (!dialog.open) dialog.showModal();
    if (IMAGE.test(link.pathname)) {
      content.append(make("img", { src: link.href, alt: name, onerror: () => content.replaceChildren("This image cannot be shown.") }));
      return;
    }
    try {
      const response = await fetch(link.href, { headers: { Range: `bytes=0-${MAX_TEXT - 1}` } });
      if (!response.ok && response.status !== 416) throw new Error(`${response.status} ${response.statusText}`);
      const text = response.status === 416 ? "" : await response.text();
      const total = Number(response.headers.get("Content-Range")?.split("/")[1] ?? 0);
      if (current !== link) return;
      content.append(make("pre", { textContent: text, tabIndex: 0 }));
      if (total > MAX_TEXT) content.prepend(make("p", { textContent: `The first 256 KiB of ${total} bytes:` }));
    } catch (error) {
      content.append(make("p", { textContent: `Cannot be shown: ${error.message}` }));
    }
  };
  const step = (by) => {
    const links = shownLinks().filter(isShown);
    const next = links[links.indexOf(current) + by];
    if (next) preview(next);
  };
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && !event.target.closest("pre")) step(by);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.replaceChildren();
    current?.focus();
  });
  table.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const isPlain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button);
    if (link && isPlain && isShown(link)) {
      event.preventDefault();
      preview(link);
    }
  });

  // The menu of an entry. Without popovers (before 2024) only the link itself is there.
  const menu = make("menu", { popover: "auto" });
  document.body.append(menu);
  // The link of the entry whose menu was opened last.
  let opener;
  const openMenu = (button) => {
    const link = linkOf(button.closest("tr"));
    opener = link;
    const entries = [["Copy link", () => copy(link.href)]];
    if (isShown(link)) entries.unshift(["Preview", () => preview(opener)]);
    for (const extra of extras) entries.push(...extra(link));
    menu.replaceChildren(
      ...entries.map(([textContent, call]) =>
        make("button", {
          textContent,
          onclick: () => {
            menu.hidePopover();
            call();
          },
        }),
      ),
    );
    menu.showPopover();
    const place = button.getBoundingClientRect();
    const below = innerHeight - place.bottom > menu.offsetHeight;
    menu.style.top = `${below ? place.bottom : Math.max(0, place.top - menu.offsetHeight)}px`;
    menu.style.left = `${Math.max(0, place.right - menu.offsetWidth)}px`;
    menu.firstChild.focus();
  };
  // The browser returns the focus to the button that opened the menu, but a refresh may have replaced that.
  menu.addEventListener("toggle", ({ newState }) => {
    const { activeElement } = document;
    if (newState === "closed" && (activeElement === document.body || menu.contains(activeElement))) {
      opener.closest("tr").querySelector(".more").focus({ preventScroll: true });
    }
  });
  menu.addEventListener("keydown", (event) => {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const all = [...menu.children];
    all[(all.indexOf(document.activeElement) + by + all.length) % all.length].focus();
  });
  table.addEventListener("click", (event) => {
    const button = event.target.closest(".more");
    if (button) openMenu(button);
  });

  // A few rows at a time: there may be 250,000.
  const decorate = (row = table.rows[0]) => {
    for (let count = 0; row && count < 2000; count++, row = row.nextElementSibling) {
      const time = row.querySelector("time");
      if (time && !time.title) local(time);
      const link = row.cells[0].tagName === "TH" && linkOf(row);
      if (link && !row.querySelector(".more") && "popover" in menu) {
        const label = `Actions for ${nameOf(link)}`;
        const button = make("button", { className: "more", type: "button", textContent: "⋯", ariaLabel: label, ariaHasPopup: "menu" });
        row.append(make("td", { className: "act" }, button));
      }
    }
    if (row) setTimeout(decorate, 0, row);
  };
  const head = $("thead tr");
  head.append(make("td"));
  decorate();

  const header = $("header p");
  const share = make("button", { type: "button", className: "copy", textContent: "Copy link to this folder", onclick: () => copy(location.href.split(/[?#]/)[0]) });
  $("footer").append(" ", share);

  // Reads the folder again after a change. All rows are new elements: the focus goes to the entry of this name, stays
  // at the entry that had it, or goes to the one that takes its place.
  const refresh = async (name) => {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const rows = page.querySelector("#entries");
    if (!rows) return;
    const { activeElement } = document;
    const row = activeElement.closest("#entries tr");
    const link = row && linkOf(row);
    const at = row ? shownLinks().indexOf(link) : -1;
    table.replaceChildren(...rows.children);
    header.textContent = page.querySelector("header p").textContent;
    decorate();
    filter();
    const links = shownLinks();
    const same = (old) => links.find(({ href }) => href === old?.href);
    [current, opener] = [current, opener].map((old) => same(old) ?? old);
    const named = links.find((link) => nameOf(link).replace(/\/$/, "") === name);
    const next = named ?? same(link) ?? links[Math.min(at, links.length - 1)];
    const more = activeElement.matches(".more") && next?.closest("tr").querySelector(".more");
    (more || next)?.focus();
  };
  // For the other scripts of this page.
  window.listing = { make, say, can, extras, reasonOf, refresh, nameOf };
}
