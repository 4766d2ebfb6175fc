// Drawing with an export of a preset: a prompt becomes codes, codes become pictures, CLIP ranks the pictures.
//
// tests/onnx_engine.py does the same in Python; without chance (temperature 0) both write the same codes.

import { Fault } from "./fault.js";
import { decodeJson } from "./files.js";
import { uniformNumbers } from "./random.js";
import { guided, nextCode } from "./sampling.js";
import { Tokenizer } from "./tokenizer.js";

export class Engine {
  /** @param {import("./graphs.js").Graphs} graphs of an export of a preset */
  constructor(graphs) {
    const { sizes, tokens, sampling, words } = graphs.manifest;
    Object.assign(this, { graphs, sizes, tokens, sampling, words });
    const tokenizer = (name) => new Tokenizer(decodeJson(graphs.files.get(name)), tokens);
    this.tokenizer = tokenizer("tokenizer.json");
    this.clipTokenizer = graphs.files.has("clip_tokenizer.json") ? tokenizer("clip_tokenizer.json") : this.tokenizer;
  }

  /**
   * Draw pictures of a prompt.
   *
   * @param {{prompt: string, pictures: number, seed: number}} wish `first` is the number of the first picture, which is
   *   0 if left out; other fields replace settings of the preset: guidance, temperature, top_k, top_p
   * @param {AbortSignal} [signal] ends it after the code that it is writing
   * @yields {{codes: number[][], pixels: Float32Array, rows: number, scores: ?number[]}} after each row of codes, and
   *   once more with the scores, 100 · cosine, if the preset has a CLIP. `rows` are written; `pixels` has the shape
   *   (pictures, 3, size, size), from 0 to 1, and only its upper part, the rows written, is meant to be seen.
   */
  async *draw({ prompt, pictures, seed, first = 0, ...how }, signal) {
    const { grid } = this.sizes;
    if (!this.tokenizer.pieces(prompt).length) throw new Fault("The prompt is empty; say what to draw.");
    const uniforms = Array.from({ length: pictures }, (_, i) => uniformNumbers(seed, first + i, grid * grid));
    let drawn;
    for await (const codes of this.write(prompt, uniforms, { ...this.sampling, ...how })) {
      await otherMessages();
      if (signal?.aborted) return;
      const written = codes[0].length;
      if (written % grid === 0) {
        drawn = { codes, pixels: await this.decode(codes), rows: written / grid, scores: null };
        yield drawn;
      }
    }
    if (this.graphs.has("text_tower")) yield { ...drawn, scores: await this.score(prompt, drawn.pixels) };
  }

  /**
   * Write codes, one of each picture at a time.
   *
   * @param {string} prompt
   * @param {Float64Array[]} uniforms the random numbers of each picture, one for each code
   * @param {{guidance: number, temperature: number, top_k: ?number, top_p: ?number}} sampling
   * @yields {number[][]} the codes of each picture so far
   */
  async *write(prompt, uniforms, sampling) {
    const { codes: vocabulary, decoder_layers, heads, head_width } = this.sizes;
    const [pictures, length] = [uniforms.length, uniforms[0].length];
    const { memory, mask } = await this.#read(prompt, sampling.guidance !== 1);
    const prompts = mask.dims[0];
    const stepShape = [decoder_layers, 2, prompts, pictures, heads, head_width];
    const stepSize = stepShape.reduce((a, b) => a * b);
    const cache = new Float32Array(length * stepSize); // the keys and values of all steps
    const codes = uniforms.map(() => []);
    for (let step = 0; step < length; step++) {
      const newest = codes.map((row) => row[step - 1] ?? this.tokens.first_code);
      const { logits, added } = await this.graphs.run("code_writer", {
        newest: [Array(prompts).fill(newest).flat(), [prompts, pictures]],
        position: [[step], [1]],
        memory: [memory.data, memory.dims],
        mask: [mask.data, mask.dims],
        cache: [cache.subarray(0, step * stepSize), [step, ...stepShape]],
      });
      cache.set(added.data, step * stepSize);
      for (let picture = 0; picture < pictures; picture++) {
        const own = (row) => logits.data.subarray(row * vocabulary, (row + 1) * vocabulary); // (prompt, picture)
        const chosen = prompts === 2 ? guided(own(picture), own(pictures + picture), sampling.guidance) : own(picture);
        codes[picture].push(nextCode(chosen, sampling, uniforms[picture][step]));
      }
      yield codes;
    }
  }

  /** Whether a prompt has more tokens than the translator reads. */
  isCut(prompt) {
    return this.tokenizer.pieces(prompt).length > this.sizes.text_length - 2;
  }

  /** The translator's memory and mask of a prompt and, for guidance, of an empty caption. */
  #read(prompt, withEmpty) {
    const { text_length: length } = this.sizes;
    const rows = [this.tokenizer.encode(prompt, length)];
    if (withEmpty) rows.push(this.tokenizer.emptyCaption(length));
    const longest = Math.max(...rows.map((row) => row.filter((id) => id !== this.tokens.pad).length));
    const ids = rows.flatMap((row) => row.slice(0, longest)); // a column of padding alone changes nothing
    return this.graphs.run("caption_reader", { ids: [ids, [rows.length, longest]] });
  }

  /** Decode codes to pixels (pictures, 3, size, size). Codes that are not written yet repeat the last one. */
  async decode(codes) {
    const { grid } = this.sizes;
    const filled = codes.flatMap((row) => [...row, ...Array(grid * grid - row.length).fill(row.at(-1))]);
    const { pictures } = await this.graphs.run("picture_decoder", { codes: [filled, [codes.length, grid, grid]] });
    return pictures.data;
  }

  /** Score pictures with CLIP: 100 · cosine between the prompt and each of them. */
  async score(prompt, pixels) {
    const { clip_text_length: length, clip_picture_size: size } = this.sizes;
    const text = await this.graphs.run("text_tower", { ids: [this.clipTokenizer.encode(prompt, length), [1, length]] });
    const shape = [pixels.length / (3 * size * size), 3, size, size];
    const seen = await this.graphs.run("picture_tower", { pictures: [pixels, shape] });
    const [count, width] = seen.vectors.dims; // all vectors have length 1
    return Array.from(
      { length: count },
      (_, picture) =>
        100 * text.vectors.data.reduce((sum, value, i) => sum + value * seen.vectors.data[picture * width + i], 0),
    );
  }
}

/** Let a worker take in the messages that have come meanwhile; a promise alone does not. */
function otherMessages() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve(port1.close());
    port2.postMessage(null);
  });
}
