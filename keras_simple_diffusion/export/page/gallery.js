// One image of the page: its noise, its steps while it is drawn, its file.

const SMALL = 48; // Pixels below which an image is enlarged without smoothing.
const MAX_BYTES = 2 ** 22; // Of the steps of an image, which can be replayed.

const make = (name, properties) =>
  Object.assign(document.createElement(name), properties);

export class ShownImage {
  constructor([height, width], numSteps, noise) {
    this.numSteps = numSteps;
    this.steps = [];
    this.keepsSteps = noise.length * numSteps <= MAX_BYTES;
    this.figure = make("figure", { className: "waiting" });
    this.canvas = make("canvas", { width, height });
    this.canvas.classList.toggle("small", width < SMALL);
    this.canvas.role = "img";
    this.canvas.ariaLabel = "Noise";
    this.figure.append(this.canvas);
    this.paint(noise);
  }

  get isNoise() {
    return this.caption === undefined;
  }

  get isFinished() {
    return this.steps.length === this.numSteps;
  }

  paint(pixels) {
    const { width, height } = this.canvas;
    const image = new ImageData(pixels, width, height);
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // Write what will be drawn below the noise.
  begin(caption, seed) {
    this.caption = caption;
    this.seed = seed;
    this.canvas.ariaLabel = caption || "Image";
    this.facts = make("span", { textContent: `seed ${seed}` });
    this.line = make("p");
    this.line.append(this.facts);
    const below = make("figcaption", { textContent: caption });
    below.append(this.line);
    this.slider = make("input", { type: "range", min: 1, max: this.numSteps });
    this.slider.value = 1;
    this.slider.ariaLabel = "Step";
    this.slider.disabled = true;
    this.slider.hidden = !this.keepsSteps || this.numSteps < 2;
    this.slider.addEventListener("input", () => {
      this.paint(this.steps[this.slider.value - 1]);
    });
    this.figure.append(this.slider, below);
  }

  show(pixels, number, seconds) {
    this.figure.classList.remove("waiting");
    this.steps[number - 1] = this.keepsSteps ? pixels : null;
    this.seconds = seconds;
    this.paint(pixels);
    this.slider.value = number;
    this.facts.textContent = `step ${number} of ${this.numSteps}`;
    if (this.isFinished) this.finish();
  }

  finish() {
    this.facts.textContent = `seed ${this.seed} · ${this.seconds.toFixed(2)} s`;
    const words = [this.caption, "seed", this.seed].join(" ");
    const name = words.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-/, "");
    const save = make("a", { textContent: "PNG", download: `${name}.png` });
    save.href = this.canvas.toDataURL("image/png");
    save.title = save.ariaLabel = "Download as PNG";
    this.line.append(save);
    this.slider.disabled = false;
  }
}
