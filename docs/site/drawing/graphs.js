// A folder of ONNX files that `atelier export-onnx` or the site's build has written, run by onnxruntime-web.

import * as ort from "./onnxruntime.mjs";
import { Fault } from "./fault.js";
import { checkedFile, decodeJson } from "./files.js";

const FORMAT = 1; // of the manifest; see atelier/export/manifest.py

/** Fetch WebAssembly's part of onnxruntime and hand it over. It is packed with gzip, a quarter of its size. */
export async function startRuntime(address, facts, onBytes) {
  const packed = await checkedFile(address, facts, onBytes);
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  ort.env.wasm.wasmBinary = await new Response(unpacked).arrayBuffer();
  ort.env.wasm.numThreads = 1; // the steps are small, and threads need headers that static sites cannot send
}

export class Graphs {
  /** Load a folder; `startRuntime` comes first. */
  static async load(folder, facts, onBytes) {
    const manifest = decodeJson(await checkedFile(new URL("drawing.json", folder), facts, onBytes));
    if (manifest.format !== FORMAT) throw new Fault("The model is newer than this page. Load the page again.");
    const files = new Map();
    for (const [name, file] of Object.entries(manifest.files)) {
      files.set(name, await checkedFile(new URL(name, folder), file, onBytes));
    }
    const sessions = new Map();
    for (const [name, graph] of Object.entries(manifest.graphs)) {
      sessions.set(name, await ort.InferenceSession.create(files.get(graph.file)));
      files.delete(graph.file);
    }
    return new Graphs(manifest, files, sessions);
  }

  constructor(manifest, files, sessions) {
    Object.assign(this, { manifest, files, sessions });
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
      new ort.Tensor(expected[input].dtype, typed(numbers, expected[input].dtype), shape),
    ]);
    return this.sessions.get(name).run(Object.fromEntries(tensors));
  }
}

/** Numbers in the array type of a dtype; int64 takes BigInts. */
function typed(numbers, dtype) {
  if (ArrayBuffer.isView(numbers)) return numbers;
  return dtype === "int64" ? BigInt64Array.from(numbers, BigInt) : Float32Array.from(numbers);
}
