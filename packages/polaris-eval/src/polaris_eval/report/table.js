// A table of problems: sorted by the column whose heading is clicked, searched by what is typed.
"use strict";
{
  const table = document.getElementById("problems");
  const [body] = table.tBodies;
  const rows = [...body.rows];
  const value = (row, column) => {
    const { dataset, textContent } = row.cells[column];
    return dataset.value === undefined ? textContent : Number(dataset.value);
  };
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      rows.sort((one, other) => {
        const [first, second] = [value(one, column), value(other, column)];
        const order = typeof first === "string" ? first.localeCompare(second, "en", { numeric: true }) : first - second;
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
  const search = document.getElementById("search");
  const choice = document.getElementById("choice");
  const count = document.getElementById("count");
  const show = () => {
    const sought = search.value.toLowerCase();
    for (const row of rows) {
      const change = Math.sign(value(row, headings.length - 1));
      row.hidden = !row.textContent.toLowerCase().includes(sought) || (choice.value !== "" && change !== Number(choice.value));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} problems`;
  };
  search.addEventListener("input", show);
  choice.addEventListener("change", show);
  show();
}
