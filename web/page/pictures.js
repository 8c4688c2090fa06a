// Pixels, filters and maps on canvases.

/// A canvas of `width` × `height` pixels whose colours `color(x, y)` gives as [r, g, b].
export function paint(canvas, width, height, color) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [r, g, b] = color(x, y);
      image.data.set([r, g, b, 255], (y * width + x) * 4);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function pixelCanvas() {
  const canvas = document.createElement("canvas");
  canvas.className = "pixels";
  return canvas;
}

/// An image (C, H, W) as bytes: grey or red, green and blue.
export function paintImage(canvas, pixels, [channels, height, width]) {
  const at = (channel, x, y) => pixels[(channel * height + y) * width + x];
  return paint(canvas, width, height, (x, y) => (channels < 3 ? Array(3).fill(at(0, x, y)) : [0, 1, 2].map((c) => at(c, x, y))));
}

/// Blue for negative, white for 0, red for positive; 128 is 0.
function signed(byte) {
  const value = Math.max(-1, Math.min(1, (byte - 127.5) / 127.5));
  const [far, near] = value < 0 ? [[33, 102, 172], -value] : [[178, 24, 43], value];
  return far.map((end) => 247 + (end - 247) * near);
}

/// The filters of the first layer, each on a canvas of its own.
export function filterCanvases({ count, channels, height, width, filters }) {
  const shown = filters.length / (channels * height * width);
  return Array.from({ length: shown }, (_, filter) => {
    const at = (channel, x, y) => filters[((filter * channels + channel) * height + y) * width + x];
    const canvas = paint(pixelCanvas(), width, height, (x, y) => (channels === 3 ? [0, 1, 2].map((c) => at(c, x, y)) : signed(at(0, x, y))));
    canvas.title = `${filter + 1} / ${count}`;
    return canvas;
  });
}

/// Dark blue over teal to yellow: as bright as the value is large.
const STOPS = [[13, 8, 60], [32, 92, 132], [42, 168, 130], [253, 231, 76]];

function heat(byte) {
  const place = (byte / 255) * (STOPS.length - 1);
  const index = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[index].map((start, c) => start + (STOPS[index + 1][c] - start) * (place - index));
}

/// The maps of a layer, each on a canvas of its own.
export function mapCanvases({ height, width, maps }) {
  const size = height * width;
  return Array.from({ length: maps.length / size }, (_, map) => paint(pixelCanvas(), width, height, (x, y) => heat(maps[map * size + y * width + x])));
}

/// Red, green and blue of an image file, scaled down to what a network needs by far.
export async function readImage(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, 512 / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvasRgb(canvas);
}

export function canvasRgb(canvas) {
  const { data } = canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, canvas.width, canvas.height);
  const rgb = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) rgb.set(data.subarray(from, from + 3), to);
  return { width: canvas.width, height: canvas.height, rgb };
}
