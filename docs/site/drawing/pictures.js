// Pixels on canvases, and canvases as PNG files.

/**
 * Paint the upper part of a picture; the rest of the canvas stays as it is.
 *
 * @param {HTMLCanvasElement} canvas square
 * @param {Float32Array} pixels (3, size, size), from 0 to 1
 * @param {number} part of the picture's height, from 0 to 1
 */
export function paint(canvas, pixels, part = 1) {
  const size = Math.sqrt(pixels.length / 3);
  if (canvas.width !== size) canvas.width = canvas.height = size;
  const bytes = new Uint8ClampedArray(4 * size * size);
  for (let i = 0; i < size * size; i++) {
    for (let channel = 0; channel < 3; channel++) bytes[4 * i + channel] = 255 * pixels[channel * size * size + i];
    bytes[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(new ImageData(bytes, size, size), 0, 0, 0, 0, size, Math.round(part * size));
}

/** Save canvases as one PNG file: a sheet with the given number of columns, each picture with the given side. */
export async function saveSheet(canvases, columns, side, name) {
  const gap = canvases.length > 1 ? Math.round(side / 32) : 0;
  const rows = Math.ceil(canvases.length / columns);
  const length = (count) => count * side + (count - 1) * gap;
  const sheet = Object.assign(document.createElement("canvas"), { width: length(columns), height: length(rows) });
  const context = sheet.getContext("2d");
  context.imageSmoothingQuality = "high";
  canvases.forEach((canvas, i) => {
    const place = [i % columns, Math.floor(i / columns)].map((at) => at * (side + gap));
    context.drawImage(canvas, ...place, side, side);
  });
  const blob = await new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}
