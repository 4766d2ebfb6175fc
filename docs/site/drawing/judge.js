// The answer of the sprites' judge, in words.

/**
 * The most probable class, and how sure the judge is.
 *
 * @param {string[]} classes their names; "none" stands for pictures of nothing that the judge knows
 * @param {ArrayLike<number>} shares the probability of each
 */
export function verdict(classes, shares) {
  const best = shares.indexOf(Math.max(...shares));
  const name = classes[best] === "none" ? "none of the kinds" : classes[best];
  return `${name}, ${Math.round(100 * shares[best])}% sure`;
}
