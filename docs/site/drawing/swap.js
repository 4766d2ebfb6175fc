// A sprite's grid of codes, in which codes can be replaced: what the decoder draws, and the judge's answer.

import { element } from "./dom.js";
import { verdict } from "./judge.js";
import { loadModel } from "./loading.js";
import { paint } from "./pictures.js";

const SIDE = 8; // cells of a grid in a row
const CODES = 64; // of the codebook
const PICTURE = 32; // pixels of a picture in a row

export class SwapPanel {
  /** @param {HTMLElement} place is emptied and filled; its data attributes are those that code_swap.py writes */
  constructor(place) {
    this.folder = place.dataset.folder;
    this.facts = JSON.parse(place.dataset.swap);
    this.#build();
    this.#choose(this.facts.start);
    place.classList.add("draw-panel");
    place.replaceChildren(this.choices, this.grids, this.book, this.status, this.progress);
  }

  #build() {
    const names = Object.keys(this.facts.subjects);
    this.subject = element("select", { id: `${this.folder}-subject` }, ...names.map((name) => element("option", {}, name)));
    this.subject.addEventListener("change", () => this.#choose(this.subject.value));
    const again = element("button", { type: "button" }, "Undo all changes");
    again.addEventListener("click", () => this.#choose(this.subject.value));
    this.choices = element(
      "div",
      { className: "choices" },
      element("label", { htmlFor: this.subject.id }, "Sprite"),
      this.subject,
      again,
    );
    this.cells = Array.from({ length: SIDE * SIDE }, (_, at) => this.#cell(at));
    this.before = picture();
    this.after = picture();
    this.says = element("p", { className: "says" });
    this.grids = element(
      "div",
      { className: "swap" },
      figure("its codes", element("div", { className: "codes", role: "group", "aria-label": "Codes of the sprite" }, ...this.cells)),
      figure("before", this.before),
      figure("after", this.after, this.says),
    );
    this.words = Array.from({ length: CODES }, (_, code) => this.#word(code));
    this.book = element(
      "div",
      { className: "book" },
      element("p", {}, "The codebook: choose a code, then click cells of the grid, or draw over them."),
      element("div", { className: "words", role: "group", "aria-label": "Codes of the codebook" }, ...this.words),
    );
    this.status = element("p", { className: "status", role: "status" });
    this.progress = element("progress", { max: 1, value: 0, "aria-label": "Progress" });
    this.#take(0);
  }

  /** A cell of the grid; a click, or the pointer drawn over it, writes the chosen code into it. */
  #cell(at) {
    const cell = element("button", { type: "button" });
    cell.addEventListener("click", () => this.#write(at));
    cell.addEventListener("pointerdown", (event) => {
      event.target.releasePointerCapture(event.pointerId); // so that a finger, too, reaches the cells beside it
      this.#write(at);
    });
    cell.addEventListener("pointerenter", (event) => event.buttons && this.#write(at));
    return cell;
  }

  /** A code of the codebook. */
  #word(code) {
    const word = element(
      "button",
      { type: "button", "aria-label": `code ${code}` },
      element("canvas", { width: PICTURE / 2, height: PICTURE / 2 }),
      String(code),
    );
    word.addEventListener("click", () => this.#take(code));
    return word;
  }

  #take(code) {
    this.chosen = code;
    this.words.forEach((word, other) => word.setAttribute("aria-pressed", other === code));
  }

  #choose(subject) {
    this.subject.value = subject;
    this.codes = [...this.facts.subjects[subject]];
    this.codes.forEach((_, at) => this.#show(at));
    this.#draw();
  }

  #write(at) {
    if (this.codes[at] === this.chosen) return;
    this.codes[at] = this.chosen;
    this.#show(at);
    this.#draw();
  }

  #show(at) {
    const code = this.codes[at];
    const colour = this.facts.colours[code];
    const cell = this.cells[at];
    cell.textContent = code;
    cell.style.background = colour;
    cell.style.color = isLight(colour) ? "#000" : "#fff";
    cell.setAttribute("aria-label", `row ${Math.floor(at / SIDE) + 1}, column ${(at % SIDE) + 1}: code ${code}`);
  }

  async loadNow() {
    const begin = async () => {
      await this.#drawWords();
      await this.#draw();
    };
    await loadModel(this, begin, "Choose a code, then cells.");
  }

  /** Show the middle of the picture that a grid of one code alone gives, for every code. */
  async #drawWords() {
    const cells = SIDE * SIDE;
    const alone = Array.from({ length: CODES * cells }, (_, at) => Math.floor(at / cells));
    const { pictures } = await this.#decode(alone);
    const whole = picture();
    const part = PICTURE / 2;
    this.words.forEach((word, code) => {
      paint(whole, pictures[code]);
      word.querySelector("canvas").getContext("2d").drawImage(whole, part / 2, part / 2, part, part, 0, 0, part, part);
    });
  }

  /** Draw the grid before and after the changes, as soon as the drawing before is done. */
  async #draw() {
    this.changed = true;
    if (!this.manifest || this.running) return;
    this.running = true;
    while (this.changed) {
      this.changed = false;
      const first = this.facts.subjects[this.subject.value];
      const { pictures, shares } = await this.#decode([...first, ...this.codes]);
      paint(this.before, pictures[0]);
      paint(this.after, pictures[1]);
      this.#tell(shares.slice(shares.length / 2));
    }
    this.running = false;
  }

  #tell(shares) {
    const says = verdict(this.manifest.classes, shares);
    this.says.textContent = `The judge says: ${says}.`;
    this.before.setAttribute("aria-label", `The ${this.subject.value} before`);
    this.after.setAttribute("aria-label", `The ${this.subject.value} after: ${says}`);
  }

  /** Decode grids, one after the other in `codes`: their pictures, each as numbers, and the judge's shares. */
  async #decode(codes) {
    const shape = [codes.length / SIDE ** 2, SIDE, SIDE];
    const { pictures, shares } = await this.painter.run("pictures", { codes: [codes, shape] });
    const each = 3 * PICTURE ** 2;
    return {
      pictures: Array.from({ length: shape[0] }, (_, i) => pictures.data.subarray(i * each, (i + 1) * each)),
      shares: shares.data,
    };
  }
}

function picture() {
  return element("canvas", { width: PICTURE, height: PICTURE, role: "img", "aria-label": "not drawn yet" });
}

function figure(name, ...content) {
  return element("figure", {}, element("figcaption", {}, name), ...content);
}

/** Whether black is easier to read on a colour, "#rrggbb", than white (WCAG 2.2, relative luminance). */
function isLight(colour) {
  const linear = [1, 3, 5].map((at) => {
    const share = parseInt(colour.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179;
}
