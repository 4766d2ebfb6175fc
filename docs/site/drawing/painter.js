// The page's side of worker.js: loads a model of the site's list, draws with it, runs its graphs.

import { Fault } from "./fault.js";
import { json } from "./files.js";
import { usableBuild } from "./runtime.js";

const LIST = new URL("../models/models.json", import.meta.url);

/**
 * The site's list of models, see docs/site/models.py, with the build of onnxruntime for this browser in place of all:
 * `{ build, folders, scripts }`; `folders` has sizes by name.
 */
export async function listOfModels() {
  const { builds, ...list } = await json(LIST);
  const name = await usableBuild();
  return { build: { name, ...builds[name] }, ...list };
}

export class Painter {
  #worker = null; // started by the first call
  #waiting = new Map(); // number of a call → what to do with its answers
  #calls = 0;

  /** @throws {Fault} if the browser lacks what drawing needs */
  constructor() {
    const lacking = ["WebAssembly", "DecompressionStream", "Worker"].find((name) => !globalThis[name]);
    if (lacking)
      throw new Fault(
        `This browser has no ${lacking}, which drawing needs. Use a current Firefox, Chrome, Edge or Safari.`,
      );
  }

  /**
   * Load a folder of the list of models.
   *
   * @param {object} entry the list
   * @param {string} folder
   * @param {(share: number) => void} onProgress gets the part that has arrived, from 0 to 1
   * @returns {Promise<object>} the manifest
   */
  load(entry, folder, onProgress = () => {}) {
    const expected = entry.build.bytes + entry.folders[folder].bytes;
    let arrived = 0;
    return this.#call("load", { list: LIST.href, entry, folder }, (bytes) => onProgress((arrived += bytes) / expected));
  }

  /** Whether a prompt is longer than the model reads. */
  isCut(prompt) {
    return this.#call("isCut", prompt);
  }

  /** Draw: `Engine.draw` of engine.js; `onRow` gets what it yields. Resolves to the last of it; null if stopped. */
  draw(wish, onRow = () => {}) {
    return this.#call("draw", wish, onRow);
  }

  /** End a drawing. */
  stop() {
    return this.#call("stop");
  }

  /** Run one graph: `Graphs.run` of graphs.js. */
  run(graph, inputs) {
    return this.#call("run", { graph, inputs });
  }

  #call(call, argument, onNews = () => {}) {
    this.#worker ??= this.#started();
    const id = this.#calls++;
    this.#worker.postMessage({ id, call, argument });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject, onNews }));
  }

  #started() {
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => this.#answer(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#worker = null; // the next call starts another one
      const sentence = "A part of this page could not be loaded. Check the connection, and load the page again.";
      for (const id of this.#waiting.keys()) this.#answer({ id, sentence });
    };
    return worker;
  }

  #answer({ id, news, result, sentence }) {
    const call = this.#waiting.get(id);
    if (news !== undefined) return call.onNews(news);
    this.#waiting.delete(id);
    if (sentence) call.reject(new Fault(sentence));
    else call.resolve(result);
  }
}
