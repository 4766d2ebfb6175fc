// From the logits of one picture to its next code: guidance, temperature, top-k, top-p. As in atelier/decoding.

const GREEDY_BELOW = 1e-6; // below this temperature the likeliest code is taken: logits divided by less could overflow

/** Classifier-free guidance: uncond + scale · (cond − uncond). */
export function guided(conditional, unconditional, scale) {
  return conditional.map((logit, i) => unconditional[i] + scale * (logit - unconditional[i]));
}

/**
 * @param {Float32Array} logits of all codes
 * @param {{temperature: number, top_k: ?number, top_p: ?number}} sampling
 * @param {number} uniform a random number from 0 to 1, without 1
 * @returns {number} a code
 */
export function nextCode(logits, { temperature, top_k, top_p }, uniform) {
  if (temperature < GREEDY_BELOW) return logits.indexOf(largest(logits));
  let kept = Uint32Array.from(logits.keys());
  if (top_k && top_k < logits.length) kept = likeliest(kept, logits).slice(0, top_k);
  const top = largest(logits);
  const shares = Float64Array.from(logits, (logit) => Math.exp((logit - top) / temperature)); // their sum is not 1
  if (top_p && top_p < 1) kept = nucleus(likeliest(kept, logits), shares, top_p);
  return pick(kept.sort(), shares, uniform);
}

/** Draw one of the kept codes, with probabilities in proportion to their shares. */
function pick(kept, shares, uniform) {
  let left = uniform * total(kept, shares);
  for (const code of kept) {
    left -= shares[code];
    if (left < 0) return code;
  }
  return kept.findLast((code) => shares[code] > 0); // rounding can leave a little
}

/** The likeliest codes that together reach the probability top_p. */
function nucleus(ranked, shares, top_p) {
  const enough = top_p * total(ranked, shares);
  let [sum, count] = [0, 0];
  while (count < ranked.length && sum < enough) sum += shares[ranked[count++]];
  return ranked.slice(0, count);
}

const likeliest = (codes, logits) => codes.slice().sort((a, b) => logits[b] - logits[a]);
const total = (codes, shares) => codes.reduce((sum, code) => sum + shares[code], 0);
const largest = (numbers) => numbers.reduce((a, b) => Math.max(a, b));
