"use strict";
// Sorting: a heading is a button; pressing it again turns the order round. Rows without a value stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const falling = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value;
      };
      const numeric = table.tBodies[0].rows[0].cells[column].dataset.value !== undefined;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
        return falling ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
// Zoom: a picture in a dialog; arrow keys go to the pictures beside it, Escape closes.
const dialog = document.querySelector("dialog");
const zooms = [...document.querySelectorAll("button.zoom")];
let shown = 0;
const show = (index) => {
  shown = (index + zooms.length) % zooms.length;
  const image = zooms[shown].querySelector("img"), large = dialog.querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  dialog.querySelector("p").textContent = image.alt;
};
zooms.forEach((button, index) => button.addEventListener("click", () => {
  show(index);
  dialog.showModal();
}));
dialog.addEventListener("click", (event) => {
  const step = event.target.closest("button")?.value;
  if (event.target === dialog || step === "0") dialog.close();
  else if (step) show(shown + Number(step));
});
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  show(shown + step);
});
dialog.addEventListener("close", () => zooms[shown].focus());
