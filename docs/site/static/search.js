// In the search's results formulas would stand as LaTeX source: they are left out of the text that is shown.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const textOf = Search.htmlToText;
  Search.htmlToText = (page, anchor) => {
    const read = new DOMParser().parseFromString(page, "text/html");
    for (const formula of read.querySelectorAll(".math")) formula.replaceWith("…");
    return textOf(read.documentElement.outerHTML, anchor);
  };
});
