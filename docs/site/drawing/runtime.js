// onnxruntime-web: which of its two builds this browser can use, and how it is started.

import { Fault } from "./fault.js";
import { checkedFile } from "./files.js";

const ON_GPU = new Set(["picture_decoder", "picture_tower"]); // their convolutions; the others have little to compute

/**
 * Which build to use: "webgpu" if the browser has a GPU for scripts, else "wasm". A GPU that is imitated in software is
 * slower than WebAssembly. The build with WebGPU waits for the GPU with WebAssembly's promises.
 */
export async function usableBuild() {
  if (!globalThis.WebAssembly?.Suspending) return "wasm";
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter && !adapter.info.isFallbackAdapter ? "webgpu" : "wasm";
}

export class Runtime {
  /**
   * Fetch and start a build. Its WebAssembly is packed with gzip, a quarter of its size.
   *
   * @param {URL} list the address of the site's list of models
   * @param {object} build an entry of the list: `name`, `module`, `file` with its facts
   * @param {(bytes: number) => void} onBytes called with the number of bytes of each part that arrives
   */
  static async start(list, build, onBytes) {
    const packed = await checkedFile(new URL(build.file, list), build, onBytes);
    const ort = await import(new URL(build.module, import.meta.url)).catch(() => {
      throw new Fault("A part of this page could not be loaded. Check the connection, and load the page again.");
    });
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    ort.env.wasm.wasmBinary = await new Response(unpacked).arrayBuffer();
    ort.env.wasm.numThreads = 1; // the steps are small, and threads need headers that static sites cannot send
    return new Runtime(ort, build.name === "webgpu");
  }

  constructor(ort, hasGpu) {
    Object.assign(this, { ort, hasGpu });
  }

  /** Load a graph, on the GPU if it gains from it; where the GPU cannot run it, WebAssembly does. */
  async session(name, content) {
    if (this.hasGpu && ON_GPU.has(name)) {
      try {
        const options = { executionProviders: ["webgpu"], logSeverityLevel: 3 }; // no warnings: some nodes stay on the CPU
        return await this.ort.InferenceSession.create(content, options);
      } catch (fault) {
        console.warn(`${name} runs without the GPU: ${fault.message}`);
      }
    }
    return this.ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
  }

  tensor(dtype, numbers, shape) {
    return new this.ort.Tensor(dtype, numbers, shape);
  }
}
