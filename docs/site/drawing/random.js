// Random numbers with a seed: sfc32 (Chris Doty-Humphrey's "small fast counter" generator, from his PractRand).
//
// PyTorch's generator is another one, so a seed gives other pictures here than in Python. As there, each picture has
// its own numbers: it does not depend on how many are drawn with it.

const WARM_UP = 15; // numbers to throw away, until similar seeds have given different states

/**
 * @param {number} seed any integer that JavaScript holds exactly
 * @param {number} picture
 * @param {number} count
 * @returns {Float64Array} numbers from 0 to 1, without 1
 */
export function uniformNumbers(seed, picture, count) {
  const next = sfc32(seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, picture >>> 0);
  for (let i = 0; i < WARM_UP; i++) next();
  return Float64Array.from({ length: count }, () => next() / 2 ** 32);
}

/** A function whose calls give whole numbers below 2³². */
function sfc32(a, b, c) {
  let counter = 1;
  return () => {
    const sum = (a + b + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
}
