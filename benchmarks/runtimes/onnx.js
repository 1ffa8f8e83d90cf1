// onnxruntime-web on WebAssembly: the model as Keras exports it through tf2onnx. One thread, as above.
import * as ort from "onnxruntime-web/wasm";

export async function load(folder) {
  ort.env.wasm.wasmPaths = new URL(`${folder}/`, location.href).href;
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(`${folder}/model.onnx`);
  const [input] = session.inputNames, [output] = session.outputNames;
  return async (image) => {
    const results = await session.run({ [input]: new ort.Tensor("float32", image, [1, 28, 28]) });
    return results[output].data;
  };
}
