// Chips from which a prompt is assembled: a subject, its colour, a setting and a style of the preset's world.

import { byId, make } from "./dom.js";

const GROUPS = { subjects: "Subject", colours: "Colour", settings: "Setting", styles: "Style" };
const EXAMPLES = [
  "the Eiffel tower landing on the moon",
  "sunset over a lake in the mountains",
  "a photo of the food of china",
];

let vocabulary = null;
let chosen = {}; // group → entry of the vocabulary

/** Show the chips of a preset's vocabulary; null has none, and examples are shown instead. */
export function showChips(words) {
  vocabulary = words;
  chosen = {};
  const rows = words ? Object.entries(GROUPS).map(([group, name]) => row(name, words[group].map((e) => chip(group, e)))) : [];
  byId("chips").replaceChildren(...rows, row("Or", EXAMPLES.map(example)));
  tellNovelty();
}

/** Choose a random prompt. */
export function surprise() {
  if (!vocabulary) return fill(anyOf(EXAMPLES));
  for (const group of Object.keys(GROUPS)) chosen[group] = anyOf(vocabulary[group]);
  update();
}

/** A prompt that was typed belongs to no chips. */
export function forgetChips() {
  chosen = {};
  mark();
}

const anyOf = (list) => list[Math.floor(Math.random() * list.length)];

function row(name, buttons) {
  const label = make("span", { className: "name" }, name);
  return make("div", { className: "row", role: "group", aria: { label: name } }, label, make("div", {}, ...buttons));
}

function chip(group, entry) {
  const button = make("button", { type: "button", className: "chip", data: { group, name: entry.name } }, entry.name);
  button.setAttribute("aria-pressed", "false");
  if (entry.shade) button.style.setProperty("--shade", entry.shade);
  button.addEventListener("click", () => {
    chosen[group] = chosen[group] === entry ? undefined : entry;
    update();
  });
  return button;
}

function example(text) {
  const button = make("button", { type: "button", className: "chip example" }, text);
  button.addEventListener("click", () => {
    forgetChips();
    fill(text);
  });
  return button;
}

function update() {
  mark();
  fill(assembled());
}

function assembled() {
  const { subjects: subject, colours: colour, settings: setting, styles: style } = chosen;
  const noun = subject ? (colour ? subject.coloured[colour.name] : subject.plain) : "";
  const scene = [noun, setting && (subject ? setting.after : setting.alone)].filter(Boolean).join(" ");
  return scene && style ? style.around.replace("{}", scene) : scene;
}

function fill(text) {
  byId("prompt").value = text;
}

function mark() {
  for (const button of document.querySelectorAll(".chip[data-group]")) {
    button.setAttribute("aria-pressed", String(chosen[button.dataset.group]?.name === button.dataset.name));
  }
  tellNovelty();
}

function tellNovelty() {
  const values = { colour: chosen.colours?.name, setting: chosen.settings?.name, style: chosen.styles?.name };
  const found = vocabulary?.held_out.find(([subject, kind, value]) => subject === chosen.subjects?.name && values[kind] === value);
  const lacking = chosen.colours && !chosen.subjects ? "Choose a subject for the colour." : "";
  byId("novel").textContent = found ? `Training never showed this combination: ${found[0]}, ${found[2]}.` : lacking;
}
