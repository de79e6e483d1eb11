// Tokens of a prompt, as keras_simple_diffusion/text/text_transformer.py.

// A word including digits, or any other single character.
const WORDS = /[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]/gu;

export function splitWords(text) {
  return text.toLowerCase().match(WORDS) ?? [];
}

// Token ids of a text, padded with zeros. `text` is that of model.json.
export function tokenize(prompt, { vocabulary, sequence_length: length }) {
  const ids = new Map(vocabulary.map((token, i) => [token, i]));
  const tokens = ["[START]"];
  for (const word of splitWords(prompt)) {
    const [first, ...rest] = word; // Code points, unlike word[0].
    const letters = [first, ...rest.map((letter) => "##" + letter)];
    tokens.push(...(ids.has(word) ? [word] : letters));
  }
  const unknown = ids.get("[UNKNOWN]");
  const padded = new Int32Array(length);
  padded.set(tokens.slice(0, length).map((token) => ids.get(token) ?? unknown));
  return padded;
}
