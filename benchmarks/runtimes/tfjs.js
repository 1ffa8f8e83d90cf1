// TensorFlow.js on its WebAssembly backend. Its converter asks for an old TensorFlow, so the layers are put
// together here from the list of operations that tlhelpers.page.web.export writes, with the weights of that file.
import * as tf from "@tensorflow/tfjs-core";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";

export async function load(folder) {
  setWasmPaths(`${folder}/`);
  await tf.setBackend("wasm");
  const header = await (await fetch(`${folder}/model.json`)).json();
  const weights = await (await fetch(`${folder}/weights.bin`)).arrayBuffer();
  const stored = ({ at, shape }) => {
    const halves = new Float16Array(weights, at, shape.reduce((a, b) => a * b, 1));
    return tf.tensor(Float32Array.from(halves), shape);
  };
  const steps = header.steps.map((step) =>
    step.kernel ? { ...step, kernel: stored(step.kernel), bias: stored(step.bias) } : step);

  const run = (image) => {
    const made = [];
    for (const step of steps) {
      const reads = step.reads.map((i) => made[i]);
      const result = step.op === "input" ? tf.tensor(image) : OPERATIONS[step.op](step, reads);
      const done = step.softmax ? tf.softmax(result) : result;
      made.push(tf.reshape(done, [1, ...step.shape]));
    }
    return made.at(-1);
  };
  return (image) => {
    const result = tf.tidy(() => run(image));
    const found = result.dataSync();
    result.dispose();
    return found;
  };
}

const image = (x) => (x.rank === 3 ? tf.expandDims(x, 3) : x);

const activation = (step) => {
  if (!("clip" in step)) return "linear";
  if (step.clip !== null && step.clip !== 6) throw new Error(`clip: expected 6 or none, got ${step.clip}`);
  return step.clip === null ? "relu" : "relu6";
};

function convolve(step, x, filter, fused) {
  const [height, width] = step.kernel.shape;
  const pad = [step.zeros[0], step.zeros[1]].map((before, axis) => {
    const reach = (step.shape[axis] - 1) * step.stride[axis] + [height, width][axis];
    return [before, Math.max(reach - x.shape[axis + 1] - before, 0)];
  });
  return fused({
    x, filter, bias: step.bias, strides: step.stride, pad: [[0, 0], ...pad, [0, 0]], activation: activation(step),
  });
}

const OPERATIONS = {
  conv: (step, [x]) => convolve(step, image(x), step.kernel, tf.fused.conv2d),
  depthwise: (step, [x]) => convolve(step, image(x), tf.expandDims(step.kernel, 3), tf.fused.depthwiseConv2d),
  dense: (step, [x]) =>
    tf.fused.matMul({ a: tf.reshape(x, [1, -1]), b: step.kernel, bias: step.bias, activation: activation(step) }),
  reshape: (step, [x]) => x,
  rescale: (step, [x]) => tf.add(tf.mul(x, step.factor), step.offset),
  add: (step, reads) => tf.addN(reads),
  concat: (step, reads) => tf.concat(reads, reads[0].rank - 1),
  resize: (step, [x]) => tf.image.resizeBilinear(image(x), step.shape.slice(0, 2), false, true),
};
