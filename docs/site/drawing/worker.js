// Runs the graphs of a folder beside the page, which stays responsive. painter.js is the page's side.
//
// A message to the worker is { id, call, argument }. It answers with any number of { id, news }, and at the end with
// { id, result }, or { id, sentence } if something is wrong.

import { Engine } from "./engine.js";
import { Fault } from "./fault.js";
import { Graphs } from "./graphs.js";
import { Runtime } from "./runtime.js";

let runtime;
let graphs;
let engine;
let drawing = new AbortController();

const calls = {
  /** Load a folder of the site's list of models; tells the number of bytes of each part that arrives. */
  async load({ list, entry, folder }, tell) {
    runtime ??= Runtime.start(list, entry.build, tell);
    graphs = await Graphs.load(await runtime, new URL(`${folder}/`, list), entry.folders[folder].manifest, tell);
    engine = graphs.has("code_writer") ? new Engine(graphs) : null;
    return graphs.manifest;
  },

  /** Whether a prompt is longer than the model reads. */
  async isCut(prompt) {
    return engine.isCut(prompt);
  },

  /** Draw; tells the pictures after each row. Returns the last of them, or null if the drawing was stopped. */
  async draw(wish, tell) {
    drawing = new AbortController();
    let drawn;
    for await (drawn of engine.draw(wish, drawing.signal)) tell(drawn);
    return drawing.signal.aborted ? null : drawn;
  },

  /** End a drawing after the code that it is writing. */
  stop() {
    drawing.abort();
  },

  /** Run one graph; see `Graphs.run`. */
  async run({ graph, inputs }) {
    const outputs = Object.entries(await graphs.run(graph, inputs));
    return Object.fromEntries(outputs.map(([name, { data, dims }]) => [name, { data, dims }]));
  },
};

onmessage = async ({ data: { id, call, argument } }) => {
  try {
    postMessage({ id, result: await calls[call](argument, (news) => postMessage({ id, news })) });
  } catch (fault) {
    if (call === "load") runtime = undefined; // so that it can be tried again
    const known = fault instanceof Fault;
    postMessage({ id, sentence: known ? fault.message : `The model cannot run in this browser: ${fault.message}` });
  }
};
