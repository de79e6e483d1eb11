// The page: what is chosen, and the images that come from the worker.

import { toPixels } from "./draw.js";
import { ShownImage } from "./gallery.js";
import { imageKey, normal } from "./noise.js";

const MAX_KEPT = 96; // Images on the page.
const MAX_CHIPS = 18; // Words that are suggested at once.
const MAX_SEED = 10 ** 5; // Of random seeds, which people copy.

const NARROW = matchMedia("(max-width: 48rem)");

const $ = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });

let model; // The content of model.json.
let isReady = false;
let isDrawing = false;
let isWaiting = false; // To draw as soon as the model is loaded.
let shown = []; // The images of this drawing.
let lastSeed; // Of the last drawing.

// === Start ===

start().catch(fail);

async function start() {
  tell("Loading the model …");
  model = await fetchJSON("model/model.json");
  const { name, prompts, bytes } = await fetchJSON("page.json");
  const device = new URLSearchParams(location.search).get("device");
  worker.postMessage({ load: { model, bytes, device } });
  document.title = $("name").textContent = name;
  if (model.condition === "text") prepareText(prompts);
  if (model.condition === "label") prepareClasses();
  if (model.guidance_range || model.guidance_scale !== 1) prepareGuidance();
  $("form").addEventListener("submit", onSubmit);
  $("dice").addEventListener("click", () => changeSeed(randomSeed()));
  $("seed").addEventListener("input", () => {
    $("keep").checked = true;
    showNoise();
  });
  $("count").addEventListener("input", showNoise);
  $("cancel").addEventListener("click", cancel);
  addEventListener("keydown", ({ key }) => key === "Escape" && cancel());
  changeSeed(randomSeed());
}

async function fetchJSON(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response.json();
}

function prepareText(examples) {
  $("text").hidden = false;
  const input = $("prompt");
  const words = model.text.vocabulary.filter(
    (token) => /^\p{L}/u.test(token) && [...token].length > 2,
  );
  input.placeholder = examples[0] ?? words[0] ?? "";
  const suggest = () => {
    const last = /[\p{L}\p{N}_]*$/u.exec(input.value)[0];
    const start = input.value.slice(0, input.value.length - last.length);
    const isCompletion = (word) => word.startsWith(last.toLowerCase());
    let [title, found, before] = ["Words that the model knows", words, start];
    if (!input.value.trim() && examples.length) {
      [title, found] = ["Prompts to try", examples];
    } else if (last && words.includes(last.toLowerCase())) {
      before = `${input.value} `; // The word is complete: suggest the next.
    } else if (last) {
      found = words.filter(isCompletion);
    }
    $("words-title").textContent = title;
    showChips($("words"), found, (word) => {
      input.value = before + word;
      input.focus();
      suggest();
    });
  };
  input.addEventListener("input", suggest);
  suggest();
}

function showChips(box, words, choose) {
  const chips = words.slice(0, MAX_CHIPS).map((word) => {
    const chip = makeChip(word);
    chip.addEventListener("click", () => choose(word));
    return chip;
  });
  box.replaceChildren(...chips);
}

function makeChip(text) {
  const chip = document.createElement("button");
  return Object.assign(chip, { type: "button", textContent: text });
}

function prepareClasses() {
  $("classes").hidden = false;
  const chips = Array.from({ length: model.num_classes }, (_, label) => {
    const chip = makeChip(nameOf(label));
    chip.value = label;
    chip.ariaPressed = "false";
    chip.addEventListener("click", () => {
      chip.ariaPressed = chip.ariaPressed === "true" ? "false" : "true";
    });
    return chip;
  });
  $("labels").append(...chips);
  $("find").hidden = chips.length <= MAX_CHIPS;
  $("find").addEventListener("input", () => {
    const part = $("find").value.toLowerCase();
    for (const chip of chips) {
      chip.hidden = !chip.textContent.toLowerCase().includes(part);
    }
  });
}

function nameOf(label) {
  return model.class_names?.[label] ?? String(label);
}

function prepareGuidance() {
  $("guided").hidden = false;
  const slider = $("guidance");
  const most = Math.max(4, 2 * model.guidance_scale);
  [slider.min, slider.max] = model.guidance_range ?? [1, most];
  slider.value = model.guidance_scale;
  const show = () => ($("scale").textContent = Number(slider.value).toFixed(2));
  slider.addEventListener("input", show);
  show();
}

// === Settings ===

function randomSeed() {
  return Math.floor(Math.random() * MAX_SEED);
}

function changeSeed(seed) {
  $("seed").value = seed;
  showNoise();
}

// Labels or prompts of the images.
function findWanted() {
  const count = $("count").valueAsNumber;
  let choices = [null];
  if (model.condition === "text") {
    choices = [$("prompt").value.trim() || $("prompt").placeholder];
  } else if (model.condition === "label") {
    const all = [...$("labels").children];
    const pressed = all.filter((chip) => chip.ariaPressed === "true");
    choices = (pressed.length ? pressed : all).map((chip) => Number(chip.value));
  }
  return Array.from({ length: count }, (_, i) => choices[i % choices.length]);
}

// Show the noise that the images start from.
function showNoise() {
  const count = $("count").valueAsNumber;
  if (isDrawing || !$("count").checkValidity() || !$("seed").checkValidity()) {
    return;
  }
  for (const image of shown) if (image.isNoise) image.figure.remove();
  const shape = model.image_shape;
  shown = Array.from({ length: count }, (_, index) => {
    const key = imageKey(BigInt($("seed").value), index);
    const noise = normal(key, 0, shape[0] * shape[1] * shape[2]);
    const pixels = toPixels(noise.map((x) => x / 3), shape[2]);
    return new ShownImage(shape, model.steps.length, pixels);
  });
  $("gallery").prepend(...shown.map((image) => image.figure));
  while ($("gallery").children.length > MAX_KEPT) {
    $("gallery").lastChild.remove();
  }
}

function describe(wanted) {
  if (model.condition === "text") return wanted;
  return wanted === null ? "" : nameOf(wanted);
}

// === Drawing ===

function onSubmit(event) {
  event.preventDefault();
  if (isDrawing) return;
  if (isReady) draw();
  else {
    isWaiting = true;
    setDrawing(true);
  }
}

function draw() {
  const isUsed = $("seed").value === lastSeed;
  if (isUsed && !$("keep").checked) changeSeed(randomSeed());
  const seed = $("seed").value;
  lastSeed = seed;
  const wanted = findWanted();
  showNoise();
  shown.forEach((image, i) => image.begin(describe(wanted[i]), seed));
  setDrawing(true);
  tell("Drawing …");
  // On a narrow screen the images are below the form.
  if (NARROW.matches) $("cancel").scrollIntoView();
  const guidance = $("guided").hidden ? 1 : $("guidance").valueAsNumber;
  worker.postMessage({ draw: { seed, wanted, guidance } });
}

function cancel() {
  if (isWaiting) {
    isWaiting = false;
    setDrawing(false);
  } else if (isDrawing) worker.postMessage({ cancel: true });
}

function setDrawing(state) {
  isDrawing = state;
  $("draw").disabled = state;
  $("cancel").disabled = !state;
}

worker.onerror = (event) => fail(event.message ?? "The worker cannot start.");
worker.onmessage = ({ data: { loading, ready, step, finished, failed } }) => {
  if (loading) onLoading(loading);
  if (ready) onReady(ready);
  if (step) onStep(step);
  if (finished) onFinished(finished);
  if (failed) fail(failed);
};

function onLoading({ loaded, total }) {
  const [done, all] = [loaded, total].map((x) => (x / 1e6).toFixed(0));
  $("progress").value = total ? loaded / total : 0;
  tell(`Loading the model: ${done} of ${all} MB`);
}

function onReady({ device, threads, version }) {
  isReady = true;
  $("progress").value = 0;
  tell("Ready.");
  const [height, width] = model.image_shape;
  const where = device === "webgpu" ? "WebGPU" : "WebAssembly";
  const count = threads ? `, ${threads} thread${threads > 1 ? "s" : ""}` : "";
  $("facts").textContent =
    `${width} × ${height} pixels in ${model.steps.length} steps · ` +
    `${where}${count} · ONNX Runtime Web ${version}`;
  if (!isWaiting) return;
  isWaiting = false;
  setDrawing(false);
  draw();
}

function onStep({ index, number, pixels, seconds }) {
  const { length } = model.steps;
  shown[index].show(pixels, number, seconds);
  $("progress").value = (index + number / length) / shown.length;
  tell(`Image ${index + 1} of ${shown.length}, step ${number} of ${length}`);
}

function onFinished({ isCancelled }) {
  setDrawing(false);
  const finished = shown.filter((image) => image.isFinished);
  for (const image of shown) if (!image.isFinished) image.figure.remove();
  shown = finished;
  if (isCancelled) tell("Cancelled.");
  else {
    const sum = shown.reduce((total, image) => total + image.seconds, 0);
    tell(`${(sum / shown.length).toFixed(2)} s per image`);
  }
  $("progress").value = 0;
}

function tell(message, isError = false) {
  $("status").textContent = message;
  $("status").classList.toggle("error", isError);
}

function fail(error) {
  setDrawing(false);
  $("draw").disabled = !isReady;
  tell(`It failed: ${error?.message ?? error}`, true);
}
