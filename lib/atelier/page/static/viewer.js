// A picture seen large: its codes, the words that each code attended to, and variations of it.

import * as api from "./api.js";
import { byId, make } from "./dom.js";
import { saveFile } from "./saving.js";

const VALUES = { guidance: [1, 4], temperature: [0.2, 1.2] }; // offered for a comparison

let shown = null; // {drawing, place, preset, variations, words, thousandths}
let report = null;

/** Open a picture of a finished drawing. `variations` has functions that draw others. */
export function openViewer(drawing, place, preset, variations) {
  shown = { drawing, place, preset, variations, words: [], thousandths: [] };
  byId("large").src = drawing.pictures[place];
  byId("large").alt = `Picture ${place + 1} of “${drawing.prompt}”`;
  const score = drawing.scores ? `, score ${drawing.scores[place].toFixed(1)}` : "";
  byId("viewer-title").textContent = `“${drawing.prompt}”, picture ${place + 1}${score}`;
  byId("attention").replaceChildren();
  byId("code-line").textContent = "";
  showRows(preset.grid);
  showCodes();
  if (!byId("viewer").open) byId("viewer").showModal();
  report(showAttention(shown));
}

function showRows(grid) {
  const options = Array.from({ length: grid - 1 }, (_, row) => new Option(row + 1));
  options[Math.floor(grid / 2) - 1].selected = true;
  byId("rows").replaceChildren(...options);
}

// ------------------------------------------------------------------------------------------------- codes

function showCodes() {
  const { drawing, place, preset } = shown;
  const cells = drawing.codes[place].map((code, at) => {
    const cell = make("button", { type: "button", tabIndex: at ? -1 : 0, data: { at } }, String(code));
    cell.style.setProperty("--hue", `${Math.round(((code * 0.618034) % 1) * 360)}`);
    return cell;
  });
  byId("codes").style.setProperty("--grid", preset.grid);
  byId("codes").replaceChildren(...cells);
  label(cells);
}

function label(cells) {
  const { preset } = shown;
  cells.forEach((cell, at) => {
    const [row, column] = [Math.floor(at / preset.grid) + 1, (at % preset.grid) + 1];
    cell.setAttribute("aria-label", `Row ${row}, column ${column}: code ${cell.textContent}. ${attended(at, 3)}`);
  });
}

/** The words that a code attended to most: "blue 41 %, strawberry 30 %". */
function attended(at, most) {
  const shares = shown.thousandths[at] ?? [];
  const order = shares.map((share, word) => [share, word]).sort((a, b) => b[0] - a[0]);
  return order.slice(0, most).map(([share, word]) => `${shown.words[word]} ${Math.round(share / 10)} %`).join(", ");
}

function pointAt(cell) {
  const at = Number(cell.dataset.at);
  for (const each of byId("codes").children) each.classList.toggle("pointed", each === cell);
  byId("code-line").textContent = `Code ${cell.textContent} attended most to ${attended(at, 3)}.`;
  showShares(shown.thousandths[at]);
  showHeat(null);
}

function step(event) {
  const { grid } = shown.preset;
  const offset = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid, ArrowDown: grid }[event.key];
  const cells = [...byId("codes").children];
  const next = cells[cells.indexOf(event.target) + offset];
  if (!next) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// ------------------------------------------------------------------------------------------------- words

async function showAttention(asked) {
  const { drawing, place } = asked;
  const { prompt, preset } = drawing.settings;
  const found = await api.look({ prompt, preset, codes: drawing.codes[place] });
  if (asked !== shown) return; // another picture was opened meanwhile
  Object.assign(shown, found);
  byId("attention").replaceChildren(...found.words.map(wordButton));
  byId("code-line").textContent = "Point at a part of the picture, or at a word.";
  label([...byId("codes").children]);
}

function wordButton(word, number) {
  const bar = make("span", { className: "bar" });
  const button = make("button", { type: "button", data: { number }, aria: { pressed: "false" } }, word, bar);
  return make("li", {}, button);
}

function showShares(shares) {
  for (const button of byId("attention").querySelectorAll("button")) {
    button.style.setProperty("--share", `${shares ? shares[button.dataset.number] / 10 : 0}%`);
  }
}

/** Light the parts of the picture whose codes attended to a word; null lights all. */
function showHeat(number) {
  const shares = shown.thousandths.map((each) => (number === null ? 1 : each[number]));
  const most = Math.max(...shares, 1);
  [...byId("codes").children].forEach((cell, at) => {
    cell.style.setProperty("--shade", number === null ? 0 : 0.85 * (1 - shares[at] / most));
  });
  for (const button of byId("attention").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.number) === number));
  }
}

function pointAtWord(button) {
  const number = Number(button.dataset.number);
  showShares(null);
  showHeat(number);
  for (const each of byId("codes").children) each.classList.remove("pointed");
  byId("code-line").textContent = `Bright parts attended to “${shown.words[number]}”.`;
}

// ------------------------------------------------------------------------------------------------- variations

function vary(event, draw) {
  event.preventDefault();
  byId("viewer").close();
  draw(shown.variations);
}

function offerValues() {
  const setting = byId("compared").value;
  [byId("left").value, byId("right").value] = VALUES[setting];
  for (const side of ["left", "right"]) Object.assign(byId(side), { step: "0.05", max: setting === "guidance" ? 10 : 2 });
}

function turn(by) {
  const { drawing, place, preset, variations } = shown;
  const count = drawing.pictures.length;
  openViewer(drawing, (place + by + count) % count, preset, variations);
}

/** Connect the viewer's controls; `tell` shows what goes wrong in a promise. */
export function setUpViewer(tell) {
  report = tell;
  const viewer = byId("viewer");
  byId("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("save").addEventListener("click", () => report(saveFile(shown.drawing, shown.place)));
  byId("show-codes").addEventListener("click", ({ target }) => {
    const visible = byId("codes").classList.toggle("visible");
    target.setAttribute("aria-pressed", String(visible));
  });
  const codes = byId("codes");
  for (const kind of ["pointerover", "focusin", "click"]) {
    codes.addEventListener(kind, ({ target }) => target.dataset.at && pointAt(target));
    byId("attention").addEventListener(kind, ({ target }) => {
      const button = target.closest("button");
      if (button) pointAtWord(button);
    });
  }
  codes.addEventListener("keydown", step);
  byId("compared").addEventListener("change", offerValues);
  offerValues();
  byId("complete").addEventListener("submit", (event) =>
    vary(event, (draw) => draw.complete(shown.drawing, shown.drawing.codes[shown.place], Number(byId("rows").value))),
  );
  byId("reseed").addEventListener("submit", (event) => vary(event, (draw) => draw.reseed(shown.drawing)));
  byId("compare").addEventListener("submit", (event) =>
    vary(event, (draw) =>
      draw.compare(shown.drawing, byId("compared").value, [Number(byId("left").value), Number(byId("right").value)]),
    ),
  );
}
