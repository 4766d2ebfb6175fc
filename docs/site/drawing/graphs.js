// A folder of ONNX files that `atelier export-onnx` or the site's build has written, run by onnxruntime-web.

import { Fault } from "./fault.js";
import { checkedFile, decodeJson } from "./files.js";

const FORMAT = 1; // of the manifest; see atelier/export/manifest.py

export class Graphs {
  /** Load a folder for a `Runtime`. */
  static async load(runtime, folder, facts, onBytes) {
    const manifest = decodeJson(await checkedFile(new URL("drawing.json", folder), facts, onBytes));
    if (manifest.format !== FORMAT) throw new Fault("The model is newer than this page. Load the page again.");
    const files = new Map();
    for (const [name, file] of Object.entries(manifest.files)) {
      files.set(name, await checkedFile(new URL(name, folder), file, onBytes));
    }
    const sessions = new Map();
    for (const [name, graph] of Object.entries(manifest.graphs)) {
      sessions.set(name, await runtime.session(name, files.get(graph.file)));
      files.delete(graph.file);
    }
    return new Graphs(runtime, manifest, files, sessions);
  }

  constructor(runtime, manifest, files, sessions) {
    Object.assign(this, { runtime, manifest, files, sessions });
  }

  has(name) {
    return this.sessions.has(name);
  }

  /**
   * Run a graph.
   *
   * @param {string} name
   * @param {Object<string, [Array, number[]]>} inputs the numbers and the shape of each input, in row-major order
   * @returns {Promise<Object<string, {data: Array, dims: number[]}>>} the outputs by name
   */
  async run(name, inputs) {
    const { inputs: expected } = this.manifest.graphs[name];
    const tensors = Object.entries(inputs).map(([input, [numbers, shape]]) => [
      input,
      this.runtime.tensor(expected[input].dtype, typed(numbers, expected[input].dtype), shape),
    ]);
    return this.sessions.get(name).run(Object.fromEntries(tensors));
  }
}

/** Numbers in the array type of a dtype; int64 takes BigInts. */
function typed(numbers, dtype) {
  if (ArrayBuffer.isView(numbers)) return numbers;
  return dtype === "int64" ? BigInt64Array.from(numbers, BigInt) : Float32Array.from(numbers);
}
