// The words of a prompt, as atelier/drawing/prompts.py sees them.

/** The words of a prompt that are not known, each once; none if the model has no list of its words. */
export function unknownWords(prompt, known) {
  if (!known.length) return [];
  const words = prompt.toLowerCase().match(/[\p{L}\p{N}_][\p{L}\p{N}_'-]*/gu) ?? [];
  return [...new Set(words)].filter((word) => !known.includes(word));
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
