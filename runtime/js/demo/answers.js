/** What a bundle's task says to a text, as the page shows it. */

const MAX_TOKENS = 64;

/** What is in the text field at first, by task. */
export const EXAMPLES = {
  "sequence-classification": "A fine film, warm and funny.",
  "sentence-embedding":
    "A fine film, warm and funny.\nWhat a wonderful movie!\nThe train was late again.",
  "feature-extraction":
    "A fine film, warm and funny.\nWhat a wonderful movie!\nThe train was late again.",
  "text-generation": "Once upon a time",
};

export const PROMPTS = {
  "sequence-classification": "What should it read?",
  "sentence-embedding": "How close is each line to the first?",
  "feature-extraction": "How close is each line to the first?",
  "text-generation": "What should it go on from?",
};

/** Show the labels of a text, the likeliest first. */
async function classify(runner, text, adapter, place) {
  const [{ label, scores }] = await runner.classify([text], { adapter });
  const rows = Object.entries(scores).sort(([, a], [, b]) => b - a);
  place.replaceChildren(
    list(
      rows.map(([name, score]) => ({
        name,
        share: score,
        value: percent(score),
        isBest: name === label,
      })),
    ),
  );
}

/** Show the cosine of each line's vector with the first line's. */
async function compareLines(runner, text, adapter, place) {
  const lines = text.split("\n").filter((line) => line.trim());
  const vectors = await runner.embed(lines, { adapter });
  const rows = lines.slice(1).map((name, at) => {
    const value = cosine(vectors[0], vectors[at + 1]);
    return { name, share: Math.max(0, value), value: value.toFixed(3), isBest: false };
  });
  rows.sort((a, b) => b.share - a.share);
  if (rows[0]) rows[0].isBest = true;
  place.replaceChildren(list(rows));
}

export const ANSWERS = {
  "sequence-classification": classify,
  "sentence-embedding": compareLines,
  "feature-extraction": compareLines,
};

/** Write what a language model says behind a prompt, as it comes. */
export async function generate(runner, prompt, adapter, place) {
  const shown = document.createElement("p");
  shown.className = "generated";
  shown.textContent = prompt;
  place.replaceChildren(shown);
  const { inputs } = await runner.tokenize([prompt]);
  const room = runner.manifest.decoder.context_length - inputs.input_ids.data.length;
  return runner.generate(prompt, {
    adapter,
    maxTokens: Math.max(1, Math.min(MAX_TOKENS, room)),
    onText: (piece) => shown.append(piece),
  });
}

function cosine(a, b) {
  let [dot, one, two] = [0, 0, 0];
  a.forEach((value, at) => {
    dot += value * b[at];
    one += value * value;
    two += b[at] * b[at];
  });
  return dot / Math.max(Math.sqrt(one * two), 1e-12);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function list(rows) {
  const all = document.createElement("ul");
  all.className = "scores";
  for (const { name, share, value, isBest } of rows) {
    const row = document.createElement("li");
    row.classList.toggle("best", isBest);
    row.style.setProperty("--share", Math.min(1, Math.max(0, share)));
    const [left, right] = [document.createElement("span"), document.createElement("span")];
    left.textContent = name;
    right.textContent = value;
    row.append(left, right);
    all.append(row);
  }
  return all;
}
