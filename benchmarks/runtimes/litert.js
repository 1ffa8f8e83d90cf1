// LiteRT.js: the model as Keras exports it. Without threads, which need headers that static hosts do not send.
import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";

export async function load(folder) {
  await loadLiteRt(`${folder}/wasm/`, { threads: false });
  const model = await loadAndCompile(`${folder}/model.tflite`, { accelerator: "wasm" });
  return async (image) => {
    const input = new Tensor(image, [1, 28, 28]);
    const results = await model.run(input);
    const found = Float32Array.from(results[0].toTypedArray());
    for (const tensor of [input, ...results]) tensor.delete();
    return found;
  };
}
