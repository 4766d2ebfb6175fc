// The results of exercises: a row for each exercise, a column for each participant.

import { make } from "/static/dom.js";

const KINDS = { "✓": "right", "✗": "wrong", "○": "untried" };
const order = new Intl.Collator("en", { numeric: true }).compare;

/** The table of {who, results: {exercise: mark}}; the last lesson is on top, because the room works on it. */
export function resultTable(rows) {
  const keys = [...new Set(rows.flatMap(({ results }) => Object.keys(results)))];
  const lessons = [...new Set(keys.map(lessonOf))].sort(order).reverse();
  const head = make("tr", {}, cell("Exercise"), cell("Right"), ...rows.map(({ who }) => person(who)));
  const bodies = lessons.map((lesson) => {
    const own = keys.filter((key) => lessonOf(key) === lesson).sort(order);
    return make("tbody", {}, ...own.map((key) => exerciseRow(key, rows)));
  });
  const named = rows.some(({ who }) => who.length > 3); // then the names are written upwards
  return make("table", { className: named ? "results named" : "results" }, make("thead", {}, head), ...bodies);
}

const lessonOf = (key) => key.split(".")[0];
const cell = (text) => make("th", { scope: "col" }, text);
const person = (who) => make("th", { scope: "col", className: "who" }, make("span", {}, who));

function exerciseRow(key, rows) {
  const marks = rows.map(({ results }) => results[key] ?? "");
  const given = marks.filter(Boolean);
  const bar = make("span", { className: "stack", aria: { hidden: "true" } });
  for (const [mark, kind] of Object.entries(KINDS)) {
    const part = make("span", { className: kind });
    part.style.setProperty("flex-grow", given.filter((each) => each === mark).length);
    bar.append(part);
  }
  const right = given.filter((mark) => mark === "✓").length;
  const share = make("td", { className: "share" }, `${right} of ${given.length}`, bar);
  const cells = marks.map((mark) => make("td", { className: KINDS[mark] ?? "" }, mark));
  return make("tr", {}, make("th", { scope: "row" }, key), share, ...cells);
}
