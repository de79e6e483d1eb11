// Loads the model and draws, beside the page, which stays responsive.

import { Painter, toPixels } from "./draw.js";

const NETWORKS = ["denoiser", "guide", "text_encoder"];

let painter;
let isCancelled = false;

onmessage = async ({ data: { load, draw, cancel } }) => {
  try {
    if (load) await prepare(load);
    if (draw) await drawAll(draw);
    if (cancel) isCancelled = true;
  } catch (error) {
    postMessage({ failed: String(error?.message ?? error) });
  }
};

// === Loading ===

async function prepare({ model, bytes, device: wanted }) {
  const names = NETWORKS.filter((name) => `${name}.onnx` in bytes);
  const files = await fetchAll(names, bytes);
  const device = wanted ?? (await findDevice());
  const [ort, sessions, used] = await open(files, device).catch((error) => {
    if (device === "wasm") throw error;
    return open(files, "wasm");
  });
  const byName = names.map((name, i) => [name, sessions[i]]);
  painter = new Painter(ort, model, Object.fromEntries(byName));
  const threads = used === "wasm" ? ort.env.wasm.numThreads : 0;
  const version = ort.env.versions.web;
  postMessage({ ready: { device: used, threads, version } });
}

async function open(files, device) {
  const ort = await startRuntime(device);
  const sessions = [];
  // On WebGPU sessions cannot be created at once.
  for (const file of files) {
    const options = { executionProviders: [device], logSeverityLevel: 3 };
    sessions.push(await ort.InferenceSession.create(file, options));
  }
  return [ort, sessions, device];
}

// "webgpu" where the browser has a graphics processor and can wait for it in
// WebAssembly, else "wasm".
async function findDevice() {
  if (!navigator.gpu || !WebAssembly.Suspending) return "wasm";
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  const isReal = adapter && !adapter.info.isFallbackAdapter;
  return isReal ? "webgpu" : "wasm";
}

async function startRuntime(device) {
  const variant = device === "webgpu" ? "jspi" : "wasm";
  const ort = await import(`./runtime/ort.${variant}.min.mjs`);
  ort.env.wasm.wasmPaths = new URL("runtime/", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated
    ? Math.min(4, navigator.hardwareConcurrency)
    : 1;
  ort.env.logLevel = "error";
  return ort;
}

// Fetch the files of networks, telling how many bytes of all have come.
async function fetchAll(names, bytes) {
  const total = Object.values(bytes).reduce((sum, size) => sum + size);
  let loaded = 0;
  const fetchOne = async (network) => {
    const name = `${network}.onnx`;
    const response = await fetch(`model/${name}`);
    if (!response.ok) throw new Error(`${name}: ${response.status}`);
    const file = new Uint8Array(bytes[name]);
    let end = 0;
    for await (const part of chunks(response.body)) {
      file.set(part, end);
      end += part.length;
      loaded += part.length;
      postMessage({ loading: { loaded, total } });
    }
    return file;
  };
  return Promise.all(names.map(fetchOne));
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

// === Drawing ===

async function drawAll({ seed, wanted, guidance }) {
  isCancelled = false;
  const channels = painter.model.image_shape[2];
  for (const [index, what] of wanted.entries()) {
    const settings = { seed: BigInt(seed), index, wanted: what, guidance };
    const start = performance.now();
    let number = 0;
    for await (const clean of painter.draw(settings)) {
      number += 1;
      const pixels = toPixels(clean, channels);
      const seconds = (performance.now() - start) / 1000;
      postMessage({ step: { index, number, pixels, seconds } });
      await nextMessage();
      if (isCancelled) {
        postMessage({ finished: { isCancelled } });
        return;
      }
    }
  }
  postMessage({ finished: { isCancelled } });
}

// Let a message that waits, such as a cancellation, be handled first.
function nextMessage() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
