// Standard normal numbers as a function of seed, image, stream and position.
//
// The same as keras_simple_diffusion/ops/random.py: Threefry-2x32 with 20
// rounds (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3")
// makes the bits, the Box-Muller transform normal numbers. So a seed gives the
// same noise here as in Python, up to rounding.

const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24];
const BLOCK = 64;
const TURN = Math.fround(2 * Math.PI);

export function threefry([k0, k1], [c0, c1]) {
  const keys = [k0, k1, k0 ^ k1 ^ 0x1bd11bda];
  let x0 = (c0 + k0) | 0;
  let x1 = (c1 + k1) | 0;
  for (let group = 0; group < 5; group++) {
    for (let i = 0; i < 4; i++) {
      const distance = ROTATIONS[(group % 2) * 4 + i];
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << distance) | (x1 >>> (32 - distance))) ^ x0;
    }
    x0 = (x0 + keys[(group + 1) % 3]) | 0;
    x1 = (x1 + keys[(group + 2) % 3] + group + 1) | 0;
  }
  return [x0, x1];
}

// The key of image number `index` of a seed, which is a BigInt.
export function imageKey(seed, index) {
  const words = [seed, seed >> 32n].map((word) => Number(BigInt.asIntN(32, word)));
  return threefry(words, [index, 0]);
}

// `size` numbers of a key. Stream 0 is the noise to start from, stream `i` the
// fresh noise of step `i`, counted from 1.
export function normal(key, stream, size) {
  const pairs = Math.ceil(size / (2 * BLOCK)) * BLOCK;
  const numbers = new Float32Array(2 * pairs);
  for (let position = 0; position < pairs; position++) {
    const [x0, x1] = threefry(key, [position, stream]);
    const radius = Math.sqrt(-2 * Math.log(((x0 >>> 8) + 1) * 2 ** -24));
    const angle = Math.fround((x1 >>> 8) * 2 ** -24 * TURN);
    numbers[position] = radius * Math.cos(angle);
    numbers[pairs + position] = radius * Math.sin(angle);
  }
  return numbers.subarray(0, size);
}
