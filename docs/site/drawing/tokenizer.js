// A byte-level BPE tokenizer: reads tokenizer.json and gives the ids that atelier/weights/tokenizer.py gives.

const WORDS = new RegExp(
  [
    "'s|'t|'re|'ve|'m|'ll|'d",
    " ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+",
    "\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+",
  ].join("|"),
  "gu",
);
const LONE_SURROGATES = /\p{Surrogate}/gu; // UTF-8 cannot encode them

export class Tokenizer {
  /**
   * @param {object} file the content of tokenizer.json
   * @param {{start: number, pad: number, end: number}} tokens the ids of special tokens, from the manifest
   */
  constructor(file, tokens) {
    this.tokens = tokens;
    this.ids = new Map(Object.entries(file.model.vocab));
    this.ranks = new Map(file.model.merges.map((pair, rank) => [pair.join(" "), rank]));
    this.steps = file.normalizer.normalizers.map(normalizerStep);
    this.letters = byteLetters();
    this.known = new Map(); // word → its ids
  }

  /** The text as it is split: in Unicode's NFKC form, in lower case, without invisible characters. */
  normalize(text) {
    return this.steps.reduce((changed, step) => step(changed), text.replace(LONE_SURROGATES, ""));
  }

  /** The ids of a text's pieces, without special tokens. */
  pieces(text) {
    const normal = this.normalize(text);
    const spaced = normal.startsWith(" ") ? normal : ` ${normal}`; // so that the first word is as all others
    return ((normal && spaced.match(WORDS)) || []).flatMap((word) => this.#word(word));
  }

  /** A row of ids of the given length: start, pieces, end, padding. */
  encode(text, length) {
    const { start, pad, end } = this.tokens;
    const row = [start, ...this.pieces(text).slice(0, length - 2), end];
    return [...row, ...Array(length - row.length).fill(pad)];
  }

  /** The row of ids of an empty caption, with which guidance compares. */
  emptyCaption(length) {
    const { start, pad, end } = this.tokens;
    return [start, end, ...Array(length - 2).fill(pad)];
  }

  /** Byte-pair encoding: merge the pair of neighbours with the lowest rank, until no pair has a rank. */
  #word(word) {
    if (!this.known.has(word)) {
      const parts = [...new TextEncoder().encode(word)].map((byte) => this.letters[byte]);
      for (let at = this.#firstMerge(parts); at >= 0; at = this.#firstMerge(parts)) {
        parts.splice(at, 2, parts[at] + parts[at + 1]);
      }
      this.known.set(
        word,
        parts.map((part) => this.ids.get(part)),
      );
    }
    return this.known.get(word);
  }

  /** The place of the pair that is merged next; -1 if there is none. */
  #firstMerge(parts) {
    let [place, lowest] = [-1, Infinity];
    for (let at = 0; at + 1 < parts.length; at++) {
      const rank = this.ranks.get(`${parts[at]} ${parts[at + 1]}`) ?? Infinity;
      if (rank < lowest) [place, lowest] = [at, rank];
    }
    return place;
  }
}

function normalizerStep(step) {
  switch (step.type) {
    case "NFKC":
      return (text) => text.normalize("NFKC");
    case "Lowercase": // letter by letter: JavaScript would write a sigma at the end of a word in another way
      return (text) => Array.from(text, (letter) => letter.toLowerCase()).join("");
    case "Replace": {
      const pattern = new RegExp(step.pattern.Regex.replaceAll("\\s", "\\p{White_Space}"), "gu");
      return (text) => text.replace(pattern, step.content);
    }
    case "Strip":
      return (text) => text.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");
    default:
      throw new Error(`The tokenizer has a step that this page does not know: ${step.type}.`);
  }
}

/** The letter that stands for each byte: itself if printable, else one from U+0100 (GPT-2, Radford et al. 2019). */
function byteLetters() {
  let spare = 0x100;
  const printable = (byte) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : spare++));
}
