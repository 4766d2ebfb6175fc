// The page: a prompt, its settings, the button, and what is drawn.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { remember } from "./history.js";
import { forgetChips, showChips, surprise } from "./prompt.js";
import { saveFile } from "./saving.js";
import { showSheet } from "./sheet.js";
import { openViewer, setUpViewer } from "./viewer.js";

let described = {}; // name of a preset → what the server says about it
let running = null; // AbortController of the drawing that is being drawn

/** The settings on the page, as the server takes them. */
function settings() {
  const seed = byId("seed").value.trim();
  return {
    preset: byId("preset").value,
    n: Number(byId("count").value),
    seed: seed === "" ? null : Number(seed),
    guidance: Number(byId("guidance").value),
    temperature: Number(byId("temperature").value),
  };
}

/**
 * Draw and show one or more drawings, one after the other, on one sheet.
 * @param {{title: string, note?: string, wanted: {request: object, caption?: string}[]}} sheet
 */
async function drawSheet({ title, note, wanted }) {
  running?.abort();
  const own = (running = new AbortController());
  busy(true);
  const drawings = [];
  try {
    for (const { request, caption } of wanted) {
      const place = drawings.length;
      for await (const news of api.draw(request, own.signal)) {
        if (news.ahead !== undefined) tell(`Waiting for ${news.ahead} others, who asked before you …`);
        else {
          tell("Drawing …", (place + news.progress) / wanted.length);
          drawings[place] = { ...news, caption, prompt: request.prompt };
          showSheet({ drawings }, open);
        }
      }
    }
    const sheet = { title, note, drawings };
    remember(sheet, showFinished);
    showFinished(sheet);
  } catch (fault) {
    if (own === running) failed(fault);
  } finally {
    if (own === running) busy(false);
  }
}

function failed(fault) {
  if (fault.name === "AbortError") return tell("Stopped.");
  tell("");
  byId("pictures").replaceChildren();
  byId("error").textContent = fault.message;
}

function showFinished(sheet) {
  showSheet(sheet, open);
  byId("error").textContent = "";
  const { settings: used, scores, remarks } = sheet.drawings.at(-1);
  const ranking = scores ? ", the best first by CLIP’s score, which is at most 100" : "";
  const poor = scores && scores[0] <= 0 ? "By that score, none of them fits the prompt." : "";
  tell([`Seed ${used.seed}${ranking}.`, sheet.note, poor, ...remarks].filter(Boolean).join(" "));
  byId("status").append(" ", saveAll(sheet));
}

function saveAll(sheet) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.textContent = "Save all";
  button.addEventListener("click", () => sheet.drawings.forEach((drawing) => report(saveFile(drawing))));
  return button;
}

const report = (work) => work.catch((fault) => (byId("error").textContent = fault.message));

function tell(text, progress) {
  byId("status").textContent = text;
  byId("progress").hidden = progress === undefined;
  if (progress !== undefined) byId("progress").value = progress;
}

function busy(is) {
  byId("draw").hidden = is;
  byId("stop").hidden = !is;
  byId("result").setAttribute("aria-busy", String(is));
  if (!is) return;
  byId("error").textContent = "";
  tell("Starting …", 0);
  if (matchMedia("(max-width: 60rem)").matches) byId("result").scrollIntoView({ block: "start" });
}

const open = (drawing, place) => openViewer(drawing, place, described[drawing.settings.preset], variations);

const variations = {
  complete: (drawing, codes, rows) => {
    const kept = codes.slice(0, rows * described[drawing.settings.preset].grid);
    const request = { ...drawing.settings, n: 4, seed: null, first_codes: kept };
    drawSheet({ title: `${drawing.prompt}, the upper ${rows} rows kept`, wanted: [{ request }] });
  },
  reseed: ({ prompt, settings }) => drawSheet({ title: prompt, wanted: [{ request: { ...settings, seed: null } }] }),
  compare: ({ prompt, settings }, name, values) => {
    const request = { ...settings, n: 4, rank: false };
    const wanted = values.map((value) => ({ request: { ...request, [name]: value }, caption: `${name} ${value}` }));
    const note = `Both sides use the same random numbers; only the ${name} differs.`;
    drawSheet({ title: `${prompt}: ${name} ${values.join(" and ")}`, note, wanted });
  },
};

function showPreset() {
  const preset = described[byId("preset").value];
  byId("limits").textContent = preset.limits;
  for (const name of ["guidance", "temperature"]) {
    byId(name).value = preset[name];
    showValue(name);
  }
  showChips(preset.vocabulary);
}

const showValue = (name) => (byId(`${name}-now`).value = Number(byId(name).value).toString());

function drawPrompt() {
  const prompt = byId("prompt").value;
  drawSheet({ title: prompt, wanted: [{ request: { prompt, ...settings() } }] });
}

function connect() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    drawPrompt();
  });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("ask").requestSubmit();
  });
  byId("prompt").addEventListener("input", forgetChips);
  byId("stop").addEventListener("click", () => running.abort());
  byId("surprise").addEventListener("click", () => {
    surprise();
    byId("ask").requestSubmit();
  });
  byId("preset").addEventListener("change", showPreset);
  for (const name of ["guidance", "temperature"]) byId(name).addEventListener("input", () => showValue(name));
  setUpViewer(report);
}

async function start() {
  connect();
  const { first, presets } = await api.presets();
  described = Object.fromEntries(presets.map((preset) => [preset.name, preset]));
  byId("preset").replaceChildren(...presets.map(({ name }) => new Option(name, name, name === first, name === first)));
  byId("prompt").value = "a stained glass window with an image of a blue strawberry";
  showPreset();
}

report(start());
