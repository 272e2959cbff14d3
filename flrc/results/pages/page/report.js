"use strict";

// A cell as something to sort by: numbers before texts, what is missing last in either direction.
function sortKey(text) {
  const shown = text.trim();
  if (shown === "" || shown.startsWith("\u2013") || /^nan\b/i.test(shown)) return null;
  if (/^[-+]?inf/i.test(shown)) return shown.startsWith("-") ? -Infinity : Infinity;
  const found = /^([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)([kMGT])?(?![\w.])/.exec(shown);
  if (!found) return shown;
  return Number(found[1]) * { k: 1e3, M: 1e6, G: 1e9, T: 1e12, "": 1 }[found[2] || ""];
}

function compareKeys(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return direction * (typeof a === "number" ? -1 : 1);
  if (typeof a === "number") return direction * (a - b || 0);
  return direction * a.localeCompare(b, "en", { numeric: true });
}

function keyOf(row, column) {
  const cell = row.cells[column];
  return sortKey((cell.querySelector("a") || cell).textContent);
}

// Ascending, descending, and back to the order of the page.
function sortBy(table, heading) {
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  const order = next[heading.getAttribute("aria-sort") || "none"];
  for (const other of table.querySelectorAll("th[data-column]")) other.removeAttribute("aria-sort");
  if (order !== "none") heading.setAttribute("aria-sort", order);
  table.classList.toggle("sorted", order !== "none");
  const column = Number(heading.dataset.column);
  const direction = order === "descending" ? -1 : 1;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  rows.forEach((row, place) => { row.place ??= place; });
  rows.sort((a, b) =>
    (order === "none" ? 0 : compareKeys(keyOf(a, column), keyOf(b, column), direction))
    || a.place - b.place);
  body.append(...rows);
}

function makeSortable(table) {
  for (const heading of table.querySelectorAll("th[data-column]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, heading));
    heading.append(button);
  }
}

// A table of the lines of a text: cells between tabs, titles first.
function tableOf(text) {
  const number = /^[-+]?\d[\d.]*(e[-+]?\d+)?([kMGT]\b|%|\s|$)/;
  const missing = new Set(["", "\u2013", "dense", "nan", "inf"]);
  const lines = text.trim().split("\n").map((line) => line.split("\t"));
  const numeric = lines[0].map((_, column) => {
    const cells = lines.slice(1).map((line) => line[column] ?? "");
    return cells.some((cell) => number.test(cell))
      && cells.every((cell) => number.test(cell) || missing.has(cell));
  });
  const table = document.createElement("table");
  table.className = "sortable";
  const parts = [table.createTHead(), table.createTBody()];
  lines.forEach((line, place) => {
    const row = parts[place ? 1 : 0].insertRow();
    lines[0].forEach((_, column) => {
      const cell = document.createElement(place ? "td" : "th");
      cell.textContent = line[column] ?? "";
      if (numeric[column]) cell.className = "n";
      if (!place) { cell.scope = "col"; cell.dataset.column = column; }
      row.append(cell);
    });
  });
  makeSortable(table);
  return table;
}

function showRows(details) {
  for (const text of details.querySelectorAll("pre.rows")) text.replaceWith(tableOf(text.textContent));
}

function makeCopyable(button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 2000);
  });
}

if (typeof document !== "undefined") {
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.addEventListener("toggle", (event) => showRows(event.target), true);
  document.querySelectorAll("button.copy").forEach(makeCopyable);
}
