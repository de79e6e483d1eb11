// The sampling loop: from noise to an image, one network evaluation a step, or
// two with guidance.

import { imageKey, normal } from "./noise.js";
import { tokenize } from "./text.js";

export class Painter {
  // `ort` is ONNX Runtime Web, `model` the content of model.json, and the
  // others are inference sessions, by the names of their files. Without a
  // guide the denoiser itself makes the weaker prediction of guidance.
  constructor(ort, model, { denoiser, guide, text_encoder: encoder }) {
    Object.assign(this, { ort, model, denoiser, encoder });
    this.guide = guide ?? denoiser;
    this.embedded = new Map();
  }

  // Draw image number `index` of a seed, a BigInt. Yields after each step the
  // clean image that is predicted in it, a Float32Array in [-1, 1].
  async *draw({ seed, index, wanted, guidance }) {
    const { image_shape: shape, steps, guidance_range: range } = this.model;
    const size = shape[0] * shape[1] * shape[2];
    const key = imageKey(seed, index);
    const given = await this.condition(wanted);
    const isGuided = guidance !== 1 && !range;
    const none = isGuided ? await this.condition(null) : null;
    if (range) given.guidance = this.tensor([guidance]);
    let noisy = normal(key, 0, size);
    let previous = new Float32Array(size);
    for (const [i, step] of steps.entries()) {
      const at = [noisy, step.log_snr];
      const clean = await this.predict(this.denoiser, ...at, given);
      if (isGuided && step.guided) {
        const other = await this.predict(this.guide, ...at, none);
        for (let j = 0; j < size; j++) {
          clean[j] = other[j] + guidance * (clean[j] - other[j]);
        }
      }
      this.clip(clean);
      const noise = step.noise ? normal(key, i + 1, size) : previous;
      const next = new Float32Array(size);
      for (let j = 0; j < size; j++) {
        next[j] =
          step.noisy * noisy[j] +
          step.clean * clean[j] +
          step.previous_clean * previous[j] +
          step.noise * noise[j];
      }
      noisy = next;
      previous = clean;
      yield clean;
    }
  }

  // Predict the clean image, not clipped.
  async predict(network, noisy, logSNR, given) {
    const { clean } = await network.run({
      images: this.tensor(noisy, this.model.image_shape),
      logsnr: this.tensor([logSNR]),
      ...given,
    });
    return clean.data;
  }

  clip(image) {
    const [low, high] = this.model.clip;
    for (let j = 0; j < image.length; j++) {
      image[j] = Math.min(high, Math.max(low, image[j]));
    }
  }

  // The inputs of the network that tell what to draw: a prompt, a label, or
  // nothing, `null`, as guidance needs it.
  async condition(wanted) {
    const { condition, num_classes: count, portrait } = this.model;
    const fixed = portrait ? { portrait: this.integers([0]) } : {};
    if (condition === "text") {
      return { ...fixed, ...(await this.embed(wanted ?? "")) };
    }
    if (condition === "label") {
      return { ...fixed, labels: this.integers([wanted ?? count]) };
    }
    return fixed;
  }

  async embed(text) {
    if (!this.embedded.has(text)) {
      const tokens = tokenize(text, this.model.text);
      const token_ids = this.integers(tokens, [tokens.length]);
      const { embeddings, mask } = await this.encoder.run({ token_ids });
      if (this.embedded.size > 1) this.embedded.clear();
      this.embedded.set(text, { embeddings, mask });
    }
    return this.embedded.get(text);
  }

  // Tensors of one image or text.
  tensor(values, shape = []) {
    const data = Float32Array.from(values);
    return new this.ort.Tensor("float32", data, [1, ...shape]);
  }

  integers(values, shape = []) {
    const data = Int32Array.from(values);
    return new this.ort.Tensor("int32", data, [1, ...shape]);
  }
}

// Red, green, blue and alpha of an image in [-1, 1], for a canvas.
export function toPixels(image, channels) {
  const pixels = new Uint8ClampedArray((4 * image.length) / channels).fill(255);
  for (let i = 0; i < pixels.length / 4; i++) {
    for (let c = 0; c < 3; c++) {
      const value = image[i * channels + Math.min(c, channels - 1)];
      pixels[4 * i + c] = (value + 1) * 127.5;
    }
  }
  return pixels;
}
