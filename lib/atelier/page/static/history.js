// The sheets drawn in this session. They are kept in this browser tab only.

import { byId, make } from "./dom.js";

const MOST_KEPT = 40;

/** Add a finished sheet, shown as its first picture; `show` is called when it is pressed. */
export function remember(sheet, show) {
  const [drawing] = sheet.drawings;
  const image = make("img", { src: drawing.pictures[0], alt: "" });
  const button = make("button", { type: "button", title: sheet.title, aria: { label: `Show again: ${sheet.title}` } }, image);
  button.addEventListener("click", () => show(sheet));
  const past = byId("past");
  past.prepend(make("li", {}, button));
  while (past.children.length > MOST_KEPT) past.lastElementChild.remove();
  byId("history").hidden = false;
}
