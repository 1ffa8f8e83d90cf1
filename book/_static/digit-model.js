// Runs a classifier that tlhelpers.page.web.export wrote, and turns pen strokes into the image that it expects.
// Plain JavaScript, no library. Arrays are flat: height, width, channels, the channel running fastest.

const FORMAT = 2;

/** Fetch a model; `folder` is the address of the folder with model.json and weights.bin. */
export async function load(folder) {
  const [header, weights] = await Promise.all([
    get(folder, "model.json").then((answer) => answer.json()),
    get(folder, "weights.bin").then((answer) => answer.arrayBuffer()),
  ]);
  if (header.format !== FORMAT) {
    throw new Error(`${folder}: expected a model of format ${FORMAT}, got ${header.format}; build the book again`);
  }
  if (weights.byteLength !== header.bytes) {
    throw new Error(`${folder}/weights.bin: expected ${header.bytes} bytes, got ${weights.byteLength}`);
  }
  if (crc32(new Uint8Array(weights)) !== header.crc32) {
    throw new Error(`${folder}/weights.bin: expected the weights of this model.json, got others; load the page again`);
  }
  return new Model(header, weights);
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** The sum of Python's zlib.crc32. */
function crc32(bytes) {
  let sum = -1;
  for (const byte of bytes) sum = CRC[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** Bytes of a model's two files, without fetching the large one. */
export async function size(folder) {
  const header = await (await get(folder, "model.json")).text();
  return header.length + JSON.parse(header).bytes;
}

async function get(folder, name) {
  const answer = await fetch(`${folder}/${name}`).catch(() => {
    throw new Error(`${folder}/${name}: could not be fetched`); // browsers do not say what failed
  });
  if (!answer.ok) throw new Error(`${folder}/${name}: expected the file, got HTTP ${answer.status}`);
  return answer;
}

class Model {
  constructor(header, weights) {
    this.input = header.input;
    this.steps = header.steps.map((step) => ({ ...step, ...numbers(step, weights) }));
    // One array a step, used again for each image.
    this.made = this.steps.map((step) => new Float32Array(step.shape.reduce((a, b) => a * b, 1)));
  }

  /** Probabilities for one image, values 0 to 255 as a flat array; a new Float32Array. */
  run(image) {
    if (image.length !== this.made[0].length) {
      throw new Error(`image: expected ${this.made[0].length} values, got ${image.length}`);
    }
    this.made[0].set(image);
    this.steps.forEach((step, i) => {
      if (step.op === "input") return;
      const reads = step.reads.map((j) => this.made[j]);
      OPERATIONS[step.op](step, reads, this.made[i], this.steps[step.reads[0]].shape);
      if ("clip" in step) clip(this.made[i], step.clip ?? Infinity);
      if (step.softmax) softmax(this.made[i]);
    });
    return this.made.at(-1).slice();
  }

  /** What a layer made of the last image: its shape and a copy of its values. */
  seen(name) {
    const i = this.steps.findIndex((step) => step.name === name);
    if (i < 0) throw new Error(`layer: expected one of the exported ones, got ${name}`);
    return { shape: this.steps[i].shape, values: this.made[i].slice() };
  }
}

/** The weights of a step, stored as float16. */
function numbers(step, weights) {
  if (!step.kernel) return {};
  const stored = (part) => {
    const halves = new Uint16Array(weights, part.at, part.shape.reduce((a, b) => a * b, 1));
    return Float32Array.from(halves, (half) => FLOATS[half]);
  };
  return { kernel: stored(step.kernel), window: step.kernel.shape.slice(0, 2), bias: stored(step.bias) };
}

// Every float16 by its bits: sign, five bits of exponent, ten of fraction. (Float16Array is not everywhere yet.)
const FLOATS = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
  const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
  return bits >> 15 ? -size : size;
});

const OPERATIONS = {
  conv(step, [from], to, [height, width, channels]) {
    const outputs = step.shape[2], kernel = step.kernel;
    fill(to, step.bias);
    eachWindow(step, height, width, (target, source, tap) => {
      const base = target * outputs, first = source * channels;
      let k = tap * channels * outputs;
      for (let c = 0; c < channels; c++, k += outputs) {
        const value = from[first + c];
        if (value === 0) continue; // after a rectifier many are
        for (let o = 0; o < outputs; o++) to[base + o] += value * kernel[k + o];
      }
    });
  },

  depthwise(step, [from], to, [height, width, channels]) {
    const kernel = step.kernel;
    fill(to, step.bias);
    eachWindow(step, height, width, (target, source, tap) => {
      const base = target * channels, first = source * channels, k = tap * channels;
      for (let c = 0; c < channels; c++) to[base + c] += from[first + c] * kernel[k + c];
    });
  },

  dense(step, [from], to) {
    to.set(step.bias);
    for (let i = 0, k = 0; i < from.length; i++) {
      for (let o = 0; o < to.length; o++) to[o] += from[i] * step.kernel[k++];
    }
  },

  reshape(step, [from], to) {
    to.set(from);
  },

  rescale(step, [from], to) {
    for (let i = 0; i < to.length; i++) to[i] = from[i] * step.factor + step.offset;
  },

  add(step, reads, to) {
    to.fill(0);
    for (const from of reads) for (let i = 0; i < to.length; i++) to[i] += from[i];
  },

  concat(step, reads, to) {
    const places = step.shape.slice(0, -1).reduce((a, b) => a * b, 1);
    for (let place = 0, i = 0; place < places; place++) {
      for (const from of reads) {
        const channels = from.length / places;
        for (let c = 0; c < channels; c++) to[i++] = from[place * channels + c];
      }
    }
  },

  mean(step, [from], to, [height, width, channels]) {
    to.fill(0);
    for (let i = 0; i < from.length; i++) to[i % channels] += from[i] / (height * width);
  },

  // Bilinear with pixel centres at halves, as Keras' Resizing does it.
  resize(step, [from], to, [height, width, channels = 1]) {
    const [rows, columns] = step.shape;
    const across = (n, size) => Array.from({ length: n }, (_, i) => {
      const at = Math.max((i + 0.5) * size / n - 0.5, 0);
      const low = Math.floor(at);
      return [low, Math.min(low + 1, size - 1), at - low];
    });
    const xs = across(columns, width);
    let i = 0;
    for (const [y0, y1, fy] of across(rows, height)) {
      for (const [x0, x1, fx] of xs) {
        for (let c = 0; c < channels; c++) {
          const at = (y, x) => from[(y * width + x) * channels + c];
          to[i++] = (1 - fy) * ((1 - fx) * at(y0, x0) + fx * at(y0, x1)) + fy * ((1 - fx) * at(y1, x0) + fx * at(y1, x1));
        }
      }
    }
  },
};

/** Call `add(target, source, tap)` for each place of the result and each place that its window covers. */
function eachWindow(step, height, width, add) {
  const [rows, columns] = step.shape, [down, right] = step.stride, [top, left] = step.zeros;
  const [tall, wide] = step.window;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let i = 0; i < tall; i++) {
        const y = row * down + i - top;
        if (y < 0 || y >= height) continue;
        for (let j = 0; j < wide; j++) {
          const x = column * right + j - left;
          if (x >= 0 && x < width) add(row * columns + column, y * width + x, i * wide + j);
        }
      }
    }
  }
}

/** Put the same numbers at every place. */
function fill(to, numbers) {
  for (let at = 0; at < to.length; at += numbers.length) to.set(numbers, at);
}

function clip(values, most) {
  for (let i = 0; i < values.length; i++) values[i] = Math.min(Math.max(values[i], 0), most);
}

function softmax(values) {
  const most = Math.max(...values);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] = Math.exp(values[i] - most);
  for (let i = 0; i < values.length; i++) values[i] /= sum;
}

// How digits fill their image, in shares of its height: the box around a digit, and half a line's thickness.
// MNIST's makers fitted digits into 20 of 28 pixels; in scikit-learn's 8 by 8 they fill the height.
const DRAWN = { 28: { box: 20 / 28, pen: 1.2 / 28 }, 8: { box: 1, pen: 0.07 } };

/**
 * Strokes to an image as MNIST's makers prepared theirs: the digit fills a box of 20 by 20 pixels, and its
 * centre of mass lies in the middle of 28 by 28. The strokes are drawn anew at that size, so a digit drawn
 * small has lines as thick as one drawn large.
 *
 * `strokes`: arrays of [x, y] in any unit, y downwards. `shape`: [height, width] of the image.
 * Gives values 0 to 255, flat; all zero where there is no stroke.
 */
export function toImage(strokes, [height, width]) {
  const points = strokes.flat(), image = new Float32Array(height * width);
  if (points.length === 0) return image;
  const { box, pen } = DRAWN[height];
  const [left, top, right, bottom] = [Math.min, Math.max].flatMap((end) => [0, 1].map((axis) => end(...points.map((p) => p[axis]))));
  // Half a line sticks out at either end. A dot has no extent: its scale does not matter.
  const scale = height * (box - 2 * pen) / Math.max(right - left, bottom - top, 1e-9);
  const lines = strokes.map((stroke) => stroke.map(([x, y]) => [(x - (left + right) / 2) * scale, (y - (top + bottom) / 2) * scale]));
  const drawn = (x, y) => draw(lines, x, y, height * pen, width, image);
  drawn(width / 2, height / 2);
  if (box === 1) return image;
  let sum = 0, sumX = 0, sumY = 0;
  image.forEach((value, i) => {
    sum += value;
    sumX += value * (i % width + 0.5);
    sumY += value * (Math.floor(i / width) + 0.5);
  });
  return drawn(width - sumX / sum, height - sumY / sum);
}

/** Draw with round ends and soft edges: how dark a pixel is follows from how far its centre is from the line. */
function draw(lines, middleX, middleY, pen, width, image) {
  for (let i = 0; i < image.length; i++) {
    const x = i % width + 0.5 - middleX, y = Math.floor(i / width) + 0.5 - middleY;
    let nearest = Infinity;
    for (const line of lines) {
      for (let j = 0; j < line.length; j++) {
        const [ax, ay] = line[j], [bx, by] = line[Math.min(j + 1, line.length - 1)];
        const along = (bx - ax) ** 2 + (by - ay) ** 2;
        const t = along ? Math.min(Math.max(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / along, 0), 1) : 0;
        nearest = Math.min(nearest, (x - ax - t * (bx - ax)) ** 2 + (y - ay - t * (by - ay)) ** 2);
      }
    }
    image[i] = Math.round(255 * Math.min(Math.max(pen + 0.5 - Math.sqrt(nearest), 0), 1));
  }
  return image;
}
