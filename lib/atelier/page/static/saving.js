// Saving pictures: the server writes their settings into the file.

import * as api from "./api.js";
import { make } from "./dom.js";

/** Save a drawing's grid, or one of its pictures. */
export async function saveFile(drawing, place) {
  const one = place !== undefined;
  const pictures = one ? [drawing.codes[place]] : drawing.codes;
  const { name, file } = await api.save({ settings: drawing.settings, pictures, ...(one && { place: place + 1 }) });
  const link = make("a", { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
