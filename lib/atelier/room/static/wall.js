// The pictures with their prompts, the newest first.

import { make } from "/static/dom.js";

/**
 * Show pictures in an element. Those that were there before stay as they are, so that they are not fetched again.
 * @param {HTMLElement} wall
 * @param {{key: string, prompt: string, who: string}[]} pictures
 * @param {function(object): HTMLElement[]} controls makes what stands on a picture
 */
export function showWall(wall, pictures, controls = () => []) {
  const before = new Map([...wall.children].map((tile) => [tile.dataset.key, tile]));
  const tiles = pictures.map((picture) => before.get(picture.key) ?? tile(picture, controls));
  for (const old of before.values()) if (!tiles.includes(old)) old.remove();
  tiles.forEach((each, place) => {
    if (wall.children[place] !== each) wall.insertBefore(each, wall.children[place] ?? null);
  });
}

function tile(picture, controls) {
  const image = make("img", { src: `/pictures/${picture.key}.png`, alt: `A drawing of “${picture.prompt}”` });
  const who = picture.who ? [make("small", {}, picture.who)] : [];
  const caption = make("figcaption", { title: picture.prompt }, make("span", {}, picture.prompt));
  return make("figure", { data: { key: picture.key } }, image, ...who, caption, ...controls(picture));
}

/**
 * How many of `count` squares with a caption fit on an area, and how large they can be.
 * @returns {{shown: number, columns: number, side: number}}
 */
export function fit(count, width, height, gap, caption, least) {
  for (let shown = count; shown > 0; shown--) {
    let best = { shown, columns: 1, side: 0 };
    for (let columns = 1; columns <= shown; columns++) {
      const rows = Math.ceil(shown / columns);
      const side = Math.min((width - (columns - 1) * gap) / columns, (height - (rows - 1) * gap) / rows - caption);
      if (side > best.side) best = { shown, columns, side };
    }
    if (best.side >= least || shown === 1) return best;
  }
  return { shown: 0, columns: 1, side: 0 };
}
