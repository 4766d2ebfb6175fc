// The controls with the DRAW button, and the pictures below them.

import { element } from "./dom.js";
import { Fault } from "./fault.js";
import { listOfModels, Painter } from "./painter.js";
import { paint, saveSheet } from "./pictures.js";
import { remarkOn, unknownWords } from "./words.js";

const LARGEST_SEED = 2 ** 31 - 1;
const EXAMPLES = 6;
const SIDE = 256; // pixels of a picture in a saved sheet

let panels = 0;

export class DrawPanel {
  /**
   * @param {HTMLElement} place is emptied and filled. Its data attributes are `pictures`, their number, and
   *   `prompts`, examples as JSON, the first of which is in the field at the start.
   */
  constructor(place) {
    this.count = Number(place.dataset.pictures);
    this.prompts = JSON.parse(place.dataset.prompts);
    this.manifest = null; // of the loaded model
    this.drawing = false;
    this.stopped = false; // whether STOP was pressed since the drawing began
    this.#build(`draw-${++panels}`);
    place.classList.add("draw-panel");
    place.replaceChildren(this.form, this.remark, this.status, this.progress, this.grid, this.after);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.drawing) this.#stop();
      else if (!this.button.disabled) this.#guarded(() => this.draw());
    });
  }

  #build(id) {
    const field = (name, label, input, ...more) =>
      element(
        "div",
        { className: `field ${name}` },
        element("label", { htmlFor: `${id}-${name}` }, label),
        Object.assign(input, { id: `${id}-${name}` }),
        ...more,
      );
    this.prompt = element("input", {
      type: "text",
      value: this.prompts[0],
      required: true,
      maxLength: 500,
      autocomplete: "off",
      spellcheck: false,
    });
    this.button = element("button", { type: "submit", className: "draw" }, "DRAW");
    this.seed = element("input", { type: "number", min: 0, max: LARGEST_SEED, step: 1, value: 0, required: true });
    this.another = element("button", { type: "button" }, "Another seed");
    this.another.addEventListener("click", () => {
      this.seed.value = Math.floor(Math.random() * 10_000);
      this.form.requestSubmit();
    });
    this.guidance = slider(0, 10, 0.5);
    this.temperature = slider(0, 2, 0.1);
    this.model = element("select");
    this.modelField = field("model", "Model", this.model);
    this.model.addEventListener("change", () => this.#guarded(() => this.load()));
    this.examples = element("div", { className: "examples", role: "group", "aria-label": "Examples of prompts" });
    this.form = element(
      "form",
      {},
      field("prompt", "Prompt", this.prompt),
      this.button,
      this.examples,
      element(
        "div",
        { className: "settings" },
        field("seed", "Seed", this.seed, this.another),
        field("guidance", "Guidance: how closely to follow the prompt", this.guidance.input, this.guidance.output),
        field(
          "temperature",
          "Temperature: how much is left to chance",
          this.temperature.input,
          this.temperature.output,
        ),
        this.modelField,
      ),
    );
    this.remark = element("p", { className: "remark" });
    this.status = element("p", { className: "status", role: "status" });
    this.progress = element("progress", { max: 1, hidden: true, "aria-label": "Progress" });
    this.grid = element("ol", { className: `pictures of-${this.count}`, "aria-label": "Pictures", hidden: true });
    this.save = element("button", { type: "button", hidden: true }, "Save all as PNG");
    this.save.addEventListener("click", () =>
      saveSheet(this.#canvases(), Math.ceil(Math.sqrt(this.count)), SIDE, this.#fileName()),
    );
    this.words = element("details", { hidden: true });
    this.after = element("div", { className: "after" }, this.save, this.words);
  }

  /** Load the chosen model, if it is not the loaded one. */
  load() {
    const name = this.model.value;
    if (!this.loading || this.loading.name !== name) {
      this.loading = { name, ready: this.#load() };
      this.loading.ready.then(
        () => (this.loading.name = this.model.value),
        () => (this.loading = null),
      );
    }
    return this.loading.ready;
  }

  async #load() {
    this.painter ??= new Painter();
    this.list ??= await this.#listed();
    const { [this.model.value]: folder } = this.list.folders;
    this.model.disabled = true;
    try {
      this.#busy(`Loading the model: ${megabytes(this.list.build.bytes + folder.bytes)}.`);
      this.manifest = await this.painter.load(this.list, this.model.value, (share) => (this.progress.value = share));
      this.#show(this.manifest);
      this.#idle("Ready.");
    } finally {
      this.model.disabled = false;
    }
  }

  /** Fetch the list of models, and show those that draw; the smallest one is chosen. */
  async #listed() {
    const list = await listOfModels();
    const drawing = Object.entries(list.folders).filter(([, { picture_size }]) => picture_size);
    this.model.replaceChildren(
      ...drawing.map(([value, { bytes, picture_size }]) =>
        element("option", { value }, `${value}: ${picture_size} pixels, ${megabytes(bytes)}`),
      ),
    );
    this.modelField.hidden = drawing.length === 1;
    return list;
  }

  /** Draw what the controls say: one picture first, because it is finished sooner, then the others. */
  async draw() {
    this.button.disabled = true;
    await this.load().finally(() => (this.button.disabled = false));
    const wish = {
      prompt: this.prompt.value,
      seed: this.seed.valueAsNumber,
      guidance: this.guidance.input.valueAsNumber,
      temperature: this.temperature.input.valueAsNumber,
    };
    const cards = Array.from({ length: this.count }, (_, i) =>
      card(wish.prompt, i + 1, this.manifest.sizes.picture_size),
    );
    this.#busy(`Drawing “${wish.prompt}”.`);
    this.#setDrawing(true);
    const start = performance.now();
    try {
      this.remark.textContent = await this.#remarks(wish.prompt);
      this.grid.replaceChildren(...cards.map(({ item }) => item));
      this.grid.hidden = false;
      const scores = [];
      for (const [first, pictures] of [
        [0, 1],
        [1, this.count - 1],
      ]) {
        if (this.stopped) return this.#idle("Stopped.");
        const drawn = await this.painter.draw({ ...wish, first, pictures }, (row) => this.#paint(cards, row, first));
        if (!drawn) return this.#idle("Stopped.");
        scores.push(...(drawn.scores ?? []));
      }
      this.#rank(cards, wish.prompt, scores);
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      this.#idle(
        `${this.count} pictures in ${seconds} seconds${scores.length ? ", the best first, by CLIP’s score" : ""}.`,
      );
      this.save.hidden = false;
    } finally {
      this.#setDrawing(false);
    }
  }

  /** End the drawing; the worker may be between two parts of it, so the panel remembers the wish. */
  #stop() {
    this.stopped = true;
    this.painter.stop();
  }

  #setDrawing(drawing) {
    this.drawing = drawing;
    this.stopped = false;
    this.button.textContent = drawing ? "STOP" : "DRAW";
    for (const each of this.form.querySelectorAll("button:not(.draw), select")) each.disabled = drawing;
  }

  /** Sentences on the problems of a prompt; "" if it has none. */
  async #remarks(prompt) {
    const most = this.manifest.sizes.text_length - 2;
    const cut = (await this.painter.isCut(prompt))
      ? `The model reads ${most} tokens, and the prompt has more; the rest is cut off.`
      : "";
    return [remarkOn(unknownWords(prompt, this.manifest.words)), cut].filter(Boolean).join(" ");
  }

  #paint(cards, { pixels, rows, codes }, first) {
    const each = pixels.length / codes.length;
    const part = rows / this.manifest.sizes.grid;
    codes.forEach((_, i) => {
      const { canvas, label } = cards[first + i];
      paint(canvas, pixels.subarray(i * each, (i + 1) * each), part);
      canvas.setAttribute("aria-label", part < 1 ? `${label}, unfinished` : label);
    });
    this.progress.value = (first + codes.length * part) / this.count;
  }

  /** Sort the pictures by their scores, and name the scores. */
  #rank(cards, prompt, scores) {
    const ranked = cards.map((one, i) => ({ ...one, score: scores[i] }));
    if (scores.length) ranked.sort((a, b) => b.score - a.score);
    ranked.forEach(({ canvas, caption, score }, i) => {
      const words = score === undefined ? "" : `score ${score.toFixed(1)}`;
      const save = element("button", { type: "button", "aria-label": `Save picture ${i + 1} as PNG` }, "Save");
      save.addEventListener("click", () => saveSheet([canvas], 1, 2 * SIDE, this.#fileName(i + 1)));
      canvas.setAttribute("aria-label", [`${prompt}, picture ${i + 1}`, words].filter(Boolean).join(", "));
      caption.replaceChildren(words, save);
    });
    this.grid.replaceChildren(...ranked.map(({ item }) => item));
  }

  /** Fit the controls to a loaded model. */
  #show({ sampling, words, preset }) {
    this.guidance.set(sampling.guidance);
    this.temperature.set(sampling.temperature);
    const known = this.prompts.filter((prompt) => !unknownWords(prompt, words).length);
    this.examples.replaceChildren(
      ...known.slice(0, EXAMPLES).map((prompt) => {
        const chip = element("button", { type: "button" }, prompt);
        chip.addEventListener("click", () => {
          this.prompt.value = prompt;
          this.form.requestSubmit();
        });
        return chip;
      }),
    );
    this.words.hidden = !words.length;
    this.words.replaceChildren(
      element("summary", {}, `The ${words.length} words that ${preset} knows`),
      element("p", {}, words.join(", ")),
    );
  }

  #busy(sentence) {
    this.status.classList.remove("fault");
    this.status.textContent = sentence;
    this.progress.hidden = false;
    this.progress.value = 0;
    this.save.hidden = true;
  }

  #idle(sentence) {
    this.status.textContent = sentence;
    this.progress.hidden = true;
  }

  /** Do something, and show its fault if it has one. */
  async #guarded(work) {
    try {
      await work();
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      this.grid.hidden = true;
      this.#idle(fault.message);
      this.status.classList.add("fault");
    }
  }

  /** Load the model now, not when something is drawn. */
  loadNow() {
    return this.#guarded(() => this.load());
  }

  #canvases() {
    return [...this.grid.querySelectorAll("canvas")];
  }

  #fileName(picture) {
    const words = this.prompt.value
      .normalize("NFKC")
      .replace(/[^\p{L}\p{N}]+/gu, "-")
      .slice(0, 60)
      .replace(/^-|-$/g, "");
    return `${[words, this.seed.value, picture].filter((part) => part !== undefined).join("-")}.png`;
  }
}

/** A range with its value beside it. */
function slider(min, max, step) {
  const input = element("input", { type: "range", min, max, step });
  const output = element("output");
  const show = () => (output.textContent = input.valueAsNumber.toFixed(1));
  input.addEventListener("input", show);
  return { input, output, set: (value) => ((input.value = value), show()) };
}

/** An empty picture with room for its caption. */
function card(prompt, number, size) {
  const label = `${prompt}, picture ${number}`;
  const canvas = element("canvas", { width: size, height: size, role: "img", "aria-label": `${label}, not begun` });
  const caption = element("div", { className: "caption" });
  return { canvas, caption, label, item: element("li", {}, canvas, caption) };
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
