"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => row.cells[column].textContent.trim();
  const number = text => { const found = parseFloat(text.replace("−", "-")); return Number.isNaN(found) ? -Infinity : found; };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const figures = head.classList.contains("figure");
      const downwards = head.getAttribute("aria-sort") === (figures ? "descending" : "ascending") ? -1 : 1;
      const order = (a, b) => figures
        ? number(value(b, column)) - number(value(a, column))
        : value(a, column).localeCompare(value(b, column));
      const rows = [...body.rows].sort((a, b) => downwards * order(a, b));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", figures === (downwards === 1) ? "descending" : "ascending");
      body.append(...rows);
    });
  });
}
