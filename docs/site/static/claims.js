// Buttons above the table of claims that show only those with one verdict.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table.claims");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const verdictOf = (row) => row.querySelector(".verdict").textContent;
  const bar = Object.assign(document.createElement("div"), { className: "filter" });
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Show the claims with a verdict");
  for (const verdict of ["all", ...new Set(rows.map(verdictOf))]) {
    const here = verdict === "all" ? rows : rows.filter((row) => verdictOf(row) === verdict);
    const kind = `verdict ${verdict.replaceAll(" ", "-")}`;
    const button = Object.assign(document.createElement("button"), { className: kind, textContent: `${verdict} ${here.length}` });
    button.setAttribute("aria-pressed", String(verdict === "all"));
    button.addEventListener("click", () => {
      for (const row of rows) row.hidden = !here.includes(row);
      for (const each of bar.children) each.setAttribute("aria-pressed", String(each === button));
    });
    bar.append(button);
  }
  (table.closest(".table-wrapper") ?? table).before(bar);
});
