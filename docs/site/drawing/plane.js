// A plane of latents with a mark that can be moved: what the decoder draws there, and the judge's answer.

import { element } from "./dom.js";
import { verdict } from "./judge.js";
import { loadModel } from "./loading.js";
import { paint } from "./pictures.js";

const SIDE = 300; // of the plane, in its own units
const AXES = ["z₁", "z₂"];

export class PlanePanel {
  /** @param {HTMLElement} place is emptied and filled; its data attributes are those that planes.py writes */
  constructor(place) {
    this.folder = place.dataset.folder;
    this.facts = JSON.parse(place.dataset.plane);
    this.status = element("p", { className: "status", role: "status" });
    this.progress = element("progress", { max: 1, value: 0, "aria-label": "Progress" });
    this.canvas = element("canvas", { width: 32, height: 32, role: "img", "aria-label": "not drawn yet" });
    this.says = element("p", { className: "says" });
    this.#buildPlane();
    this.sliders = AXES.map((name, axis) => this.#slider(name, axis));
    place.classList.add("draw-panel");
    place.replaceChildren(
      element("div", { className: "plane" }, this.svg, element("div", {}, this.canvas, this.says)),
      element("div", { className: "settings" }, ...this.sliders.map(({ field }) => field)),
      this.status,
      this.progress,
    );
  }

  async loadNow() {
    await loadModel(this, () => this.move(this.facts.start), "Drag the mark, or move the sliders.");
  }

  /** Go to a point, and draw there as soon as the point before is drawn. */
  async move(point) {
    const { low, high } = this.facts;
    this.point = point.map((value, axis) => Math.min(Math.max(value, low[axis]), high[axis]));
    this.sliders.forEach(({ input, output }, axis) => {
      input.value = this.point[axis];
      output.textContent = this.point[axis].toFixed(1).replace("-", "−");
    });
    const [x, y] = this.#onPlane(this.point);
    this.mark.setAttribute("transform", `translate(${x} ${y})`);
    if (!this.manifest || this.running) return;
    this.running = true;
    while (this.drawn !== this.point) await this.#draw((this.drawn = this.point));
    this.running = false;
  }

  async #draw(point) {
    const { picture, shares } = await this.painter.run("point", { z: [point, [1, 2]] });
    paint(this.canvas, picture.data);
    const says = verdict(this.manifest.classes, shares.data);
    this.says.textContent = `The judge says: ${says}.`;
    this.canvas.setAttribute(
      "aria-label",
      `The picture at ${point.map((value) => value.toFixed(1)).join(", ")}: ${says}`,
    );
  }

  #buildPlane() {
    const { dots, colours, subjects } = this.facts;
    const circles = dots.map(([x, y, kind]) => {
      const [cx, cy] = this.#onPlane([x, y]);
      return drawn("circle", { cx, cy, r: 2.2, fill: colours[kind] });
    });
    const names = subjects.map((name, kind) => {
      const own = dots.filter((dot) => dot[2] === kind);
      const [x, y] = this.#onPlane([0, 1].map((axis) => own.reduce((sum, dot) => sum + dot[axis], 0) / own.length));
      return drawn("text", { x, y, class: "name" }, name);
    });
    this.mark = drawn("g", {}, ...["halo", "mark"].map((name) => drawn("path", { d: "M-9 0H9M0 -9V9", class: name })));
    const label = `The latent plane: dots for encoded sprites of ${subjects.join(", ")}, and a mark`;
    const facts = { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", "aria-label": label };
    this.svg = drawn("svg", facts, ...circles, ...names, this.mark);
    const follow = (event) => {
      const box = this.svg.getBoundingClientRect();
      const { low, high } = this.facts;
      const across = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
      this.move(across.map((share, axis) => low[axis] + share * (high[axis] - low[axis])));
    };
    this.svg.addEventListener("pointerdown", (event) => {
      this.svg.setPointerCapture(event.pointerId);
      follow(event);
    });
    this.svg.addEventListener("pointermove", (event) => event.buttons && follow(event));
  }

  #onPlane(point) {
    const { low, high } = this.facts;
    const [x, y] = point.map((value, axis) => (SIDE * (value - low[axis])) / (high[axis] - low[axis]));
    return [x.toFixed(1), (SIDE - y).toFixed(1)];
  }

  #slider(name, axis) {
    const { low, high } = this.facts;
    const id = `${this.folder}-${axis}`;
    const input = element("input", { id, type: "range", min: low[axis], max: high[axis], step: "any" });
    input.addEventListener("input", () => this.move(this.point.with(axis, input.valueAsNumber)));
    const output = element("output");
    return {
      input,
      output,
      field: element("div", { className: "field" }, element("label", { htmlFor: id }, name), input, output),
    };
  }
}

/** An element of SVG. */
function drawn(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
