(() => {
  "use strict";
  const root = document.documentElement;
  const holder = document.getElementById("colours");
  const colours = document.createElement("button");
  const names = ["auto", "light", "dark"];
  let now = 0;
  const show = () => {
    colours.textContent = `Colours: ${names[now]}`;
    if (now) root.dataset.colours = names[now];
    else delete root.dataset.colours;
  };
  colours.type = "button";
  colours.addEventListener("click", () => { now = (now + 1) % names.length; show(); });
  show();
  holder.append(colours);

  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const number = Number(text.replace(/,/g, ""));
    return text !== "" && !Number.isNaN(number) ? number : text;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  for (const table of document.querySelectorAll("table[data-sort]")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const words = head.textContent;
      if (!words) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = words;
      const plain = document.createElement("span");
      plain.className = "paper";
      plain.textContent = words;
      plain.setAttribute("aria-hidden", "true");
      head.replaceChildren(button, plain);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => (down ? -1 : 1) * compare(value(a, column), value(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  const toml = document.getElementById("toml");
  if (toml && navigator.clipboard) {
    const copy = document.createElement("button");
    copy.type = "button";
    copy.textContent = "Copy";
    copy.addEventListener("click", () => navigator.clipboard.writeText(toml.textContent).then(() => { copy.textContent = "Copied"; }));
    toml.before(copy);
  }
})();
