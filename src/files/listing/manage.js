
{
  const { make, say, can, extras, reasonOf, refresh, nameOf } = window.listing;
  const place = document.querySelector("div.list");

  // Asks in a dialog; resolves to the text of the field, or to true without one, or to nothing.
  const ask = (title, text, action, value) =>
    new Promise((resolve) => {
      const field = value === undefined ? undefined : make("input", { value, ariaLabel: "Name", required: true });
      const form = make(
        "form",
        { method: "dialog" },
        ...(field ? [field] : []),
        make("button", { textContent: action, value: "yes" }),
        make("button", { textContent: "Cancel", type: "button", onclick: () => dialog.close() }),
      );
      const dialog = make("dialog", { ariaLabel: title });
      dialog.append(make("div", { className: "bar" }, make("h2", { textContent: title })));
      if (text) dialog.append(make("p", { textContent: text }));
      dialog.append(form);
      document.body.append(dialog);
      dialog.addEventListener("close", () => {
        resolve(dialog.returnValue === "yes" ? (field ? field.value : true) : undefined);
        dialog.remove();
      });
      dialog.showModal();
      if (field) {
        field.focus();
        const dot = value.lastIndexOf(".");
        field.setSelectionRange(0, dot > 0 ? dot : value.length);
      }
    });

  // Sends a request. The focus is at the entry of the given name then, or where it was.
  const change = async (done, name, method, path, headers = {}) => {
    try {
      const response = await fetch(path, { method, headers: { Accept: "application/json", ...headers } });
      if (!response.ok) return say(reasonOf(response, await response.text()));
      await refresh(name);
      // The last entry is gone.
      if (document.activeElement === document.body) button.focus();
      say(done);
    } catch {
      say("The connection was lost");
    }
  };

  const plain = (link) => nameOf(link).replace(/\/$/, "");
  const pathOf = (link) => link.pathname;
  const rename = async (link) => {
    const from = plain(link);
    const name = await ask(`Rename ${from}`, "", "Rename", from);
    if (!name || name === from) return;
    if (name.includes("/")) return say("A name cannot contain a slash");
    const folder = pathOf(link).replace(/[^/]*\/?$/, "");
    await change(`Renamed to ${name}`, name, "MOVE", pathOf(link), { Destination: folder + encodeURIComponent(name), Overwrite: "F" });
  };
  const remove = async (link) => {
    const text = can("trash") ? "It is moved to the trash folder of the server." : "It cannot be restored.";
    if (await ask(`Delete ${nameOf(link)}?`, text, "Delete")) {
      await change(`Deleted ${nameOf(link)}`, undefined, "DELETE", pathOf(link));
    }
  };
  extras.push((link) => [
    ["Rename", () => rename(link)],
    ["Delete", () => remove(link)],
  ]);

  const create = async () => {
    const name = await ask("New folder", "", "Create", "");
    if (!name) return;
    if (name.includes("/")) return say("A name cannot contain a slash");
    await change(`Created ${name}`, name, "MKCOL", `./${encodeURIComponent(name)}/`);
  };
  const button = make("button", { type: "button", id: "new-folder", textContent: "New folder", onclick: create });
  const bar = place.querySelector(".filter");
  if (bar) bar.append(button);
  else place.prepend(make("div", { className: "filter" }, button));
}
