
{
  const box = document.querySelector(".filter");
  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  if (box) {
    const [field, count] = [box.querySelector("input"), box.querySelector("output")];
    const rows = [...document.querySelectorAll("#entries tr")];
    let names;
    const update = () => {
      const words = plain(field.value).split(/\s+/).filter(Boolean);
      names ??= rows.map((row) => plain(row.cells[0].textContent));
      let shown = 0;
      rows.forEach((row, at) => {
        const match = words.every((word) => names[at].includes(word));
        if (row.hidden === match) row.hidden = !match;
        shown += match;
      });
      count.value = words.length ? `${shown || "none"} of ${rows.length}` : "";
    };
    field.addEventListener("input", update);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") document.querySelector("#entries tr:not([hidden]) a")?.click();
    });
    // A browser that goes back fills the field again.
    addEventListener("pageshow", () => field.value && update());
    box.hidden = false;
  }
}
