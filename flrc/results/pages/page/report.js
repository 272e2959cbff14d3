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
  document.querySelectorAll("button.copy").forEach(makeCopyable);
}
