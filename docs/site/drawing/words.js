// The words of a prompt, as atelier/drawing/prompts.py sees them.

const WORD = /[\p{L}\p{N}_]+(?:['-][\p{L}\p{N}_]+)*|\p{So}/gu; // a symbol such as an emoji is a word, too

/** The words of a prompt that are not known, each once; none if the model has no list of its words. */
export function unknownWords(prompt, known) {
  if (!known.length) return [];
  const words = prompt.toLowerCase().replaceAll("’", "'").match(WORD) ?? [];
  const parts = words.flatMap((word) => (known.includes(word) ? [word] : partsOf(word)));
  return [...new Set(parts)].filter((part) => !known.includes(part));
}

/** A word without the genitive, or the words that hyphens join. */
function partsOf(word) {
  return word.split("-").map((part) => part.replace(/'s$/, ""));
}

/** A sentence that names the unknown words; "" if there are none. */
export function remarkOn(unknown, most = 5) {
  if (!unknown.length) return "";
  const named = unknown.slice(0, most).map((word) => `“${word.length > 40 ? `${word.slice(0, 40)}…` : word}”`);
  if (unknown.length > most) named.push(`${unknown.length - most} more`);
  const last = named.pop();
  const list = named.length ? `${named.join(", ")} and ${last}` : last;
  return `The model never saw ${list} in its training, so the pictures will not show what that means.`;
}
