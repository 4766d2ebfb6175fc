// A sheet: the drawings that are shown together, one or two side by side.

import { byId, make } from "./dom.js";

/**
 * Show a sheet.
 * @param {{title: string, drawings: object[]}} sheet its drawings, finished or not.
 * @param {(drawing: object, place: number) => void} open called when a finished picture is pressed.
 */
export function showSheet(sheet, open) {
  const groups = sheet.drawings.map((drawing) => group(drawing, open));
  const pictures = byId("pictures");
  pictures.className = sheet.drawings.length > 1 ? "pair" : "";
  pictures.replaceChildren(...groups);
}

function group(drawing, open) {
  const finished = drawing.progress === 1;
  const columns = Math.ceil(Math.sqrt(drawing.pictures.length));
  const grid = make("div", { className: `grid columns-${columns}${finished ? "" : " unfinished"}` });
  grid.append(...drawing.pictures.map((address, place) => figure(drawing, address, place, finished && open)));
  return drawing.caption ? make("figure", { className: "group" }, make("figcaption", {}, drawing.caption), grid) : grid;
}

function figure(drawing, address, place, open) {
  const image = make("img", { src: address, alt: `Picture ${place + 1} of “${drawing.prompt}”`, draggable: false });
  if (!open) return make("figure", {}, image);
  const button = make("button", { type: "button", className: "picture", title: "Open it large" }, image);
  button.addEventListener("click", () => open(drawing, place));
  const best = place === 0 && drawing.scores?.[0] > 0;
  const parts = [make("span", {}, drawing.scores ? drawing.scores[place].toFixed(1) : ""), best ? make("b", {}, "best") : ""];
  return make("figure", { className: best ? "best" : "" }, button, make("figcaption", {}, ...parts));
}
