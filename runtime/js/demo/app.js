/** The page: one bundle at a time, what it says to a text, and how fast and large it is here. */

import { EdgeRunner, picked, url } from "edge-lra";
import { ANSWERS, EXAMPLES, generate, PROMPTS } from "./answers.js";
import { drawLines } from "./chart.js";
import { watchMemory } from "./memory.js";

const readMemory = watchMemory(); // before onnxruntime makes its own
const ort = await import("onnxruntime-web/wasm");

const TYPING_MS = 250;
const TOKENS = 128;
const SECONDS = Number(new URLSearchParams(location.search).get("seconds")) || 5; // of measuring
const byId = (id) => document.getElementById(id);

let runner = null;
let answering = 0; // the number of the last question: an older one's answer is not shown

async function start() {
  const names = await servedBundles();
  byId("bundle").replaceChildren(...names.map((name) => new Option(name.split("/").at(-1), name)));
  byId("bundle").disabled = names.length === 0;
  byId("bundle").addEventListener("change", () => open(url(byId("bundle").value)));
  byId("folder").addEventListener("change", () => open(picked(byId("folder").files)));
  byId("text").addEventListener("input", afterTyping);
  byId("choices").addEventListener("change", answer);
  byId("generate").addEventListener("click", answer);
  byId("run").addEventListener("click", () => attempt(measure));
  if (names.length) await open(url(names[0]));
  else
    say("No bundle is served with this page. Open a bundle's folder, NAME.edge, from this device.");
}

/** Return the bundles that the server lists; a server without a list has none. */
async function servedBundles() {
  const response = await fetch("bundles.json").catch(() => null);
  if (!response?.ok) return [];
  return response.json();
}

async function open(source) {
  await attempt(async () => {
    say(`Loading ${source.name}…`);
    answering += 1;
    await runner?.close();
    runner = null;
    byId("work").hidden = true;
    byId("measure").hidden = true;
    byId("facts").replaceChildren();
    const start = performance.now();
    runner = await EdgeRunner.load(source, { ort, threads: 1 });
    show(performance.now() - start);
    await answer();
  });
}

/** Fill the page with what is known of the bundle. */
function show(loadMs) {
  const { name, task, scheme, mode, files, max_length: longest } = runner.manifest;
  const bytes = Object.values(files).reduce((sum, { size }) => sum + size, 0);
  say(`${name} is ready; every file that was read is as it was exported.`);
  facts("facts", {
    Task: task,
    Weights: `${scheme}, ${mode}`,
    Size: `${(bytes / 2 ** 20).toFixed(1)} MiB`,
    Loaded: `${loadMs.toFixed(0)} ms`,
    onnxruntime: `${ort.env.versions.web}, wasm`,
    ...(longest ? { "Longest text": `${longest} tokens` } : {}),
  });
  byId("text").value = EXAMPLES[task] ?? "";
  byId("text-label").textContent = PROMPTS[task] ?? "";
  byId("generate").hidden = task !== "text-generation";
  byId("answer").replaceChildren();
  byId("took").textContent = "";
  showAdapters();
  byId("work").hidden = !(task in EXAMPLES);
  byId("measure").hidden = false;
  byId("plan").textContent = `Runs of 1 x ${tokens()} tokens for ${SECONDS} s, one thread.`;
  facts("numbers", {});
  drawLines(byId("latency"), [{ name: "latency", values: [] }], "ms");
  drawLines(byId("memory"), [{ name: "memory", values: [] }], "MiB");
}

function showAdapters() {
  const canBeOff = runner.manifest.head !== "adapter";
  const names = [...runner.adapters, ...(canBeOff && runner.adapters.length ? [null] : [])];
  byId("adapters").hidden = names.length === 0;
  byId("choices").replaceChildren(
    ...names.map((name) => {
      const choice = document.createElement("label");
      const button = document.createElement("input");
      button.type = "radio";
      button.name = "adapter";
      button.value = JSON.stringify(name);
      button.checked = name === (runner.defaultAdapter ?? names[0]);
      choice.append(button, name ?? "none");
      return choice;
    }),
  );
}

function adapter() {
  const chosen = document.querySelector("input[name=adapter]:checked");
  return chosen ? JSON.parse(chosen.value) : null;
}

let typing;
function afterTyping() {
  clearTimeout(typing);
  if (runner?.manifest.task !== "text-generation") typing = setTimeout(answer, TYPING_MS);
}

/** Ask about the text with the chosen adapter; a language model only when its button was pressed. */
async function answer(event) {
  const { task } = runner.manifest;
  const text = byId("text").value;
  const isGenerating = task === "text-generation";
  if (isGenerating && event?.type !== "click") return;
  if (!text.trim()) {
    byId("answer").replaceChildren();
    byId("took").textContent = "";
    return;
  }
  answering += 1;
  const question = answering;
  await attempt(async () => {
    const place = document.createElement("div");
    if (isGenerating) byId("answer").replaceChildren(place);
    const start = performance.now();
    const found = isGenerating
      ? await generate(runner, text, adapter(), place)
      : await ANSWERS[task](runner, text, adapter(), place);
    if (question !== answering) return;
    byId("answer").replaceChildren(place);
    const tookMs = performance.now() - start;
    byId("took").textContent = isGenerating
      ? `${found.tokens.length} tokens, ${found.tokensPerS.toFixed(1)} a second`
      : `Answered in ${tookMs.toFixed(1)} ms`;
  });
}

function tokens() {
  const { decoder, max_length: longest } = runner.manifest;
  return Math.min(TOKENS, decoder?.context_length ?? longest ?? TOKENS);
}

async function measure() {
  const latency = { name: "latency", values: [] };
  const heap = { name: "WebAssembly", values: [] };
  const objects = { name: "JavaScript", values: [] };
  byId("run").disabled = true;
  try {
    const found = await runner.profile({
      shape: [1, tokens()],
      budgetMs: 1000 * SECONDS,
      adapter: adapter(),
      onRun: async (latencyMs) => {
        const memory = readMemory();
        latency.values.push(latencyMs);
        heap.values.push(memory.wasmMib);
        if (memory.heapMib !== null) objects.values.push(memory.heapMib);
        const known = objects.values.length ? [heap, objects] : [heap];
        drawLines(byId("latency"), [latency], "ms");
        drawLines(byId("memory"), known, "MiB");
        await new Promise((resolve) => setTimeout(resolve)); // lets the page show it
      },
    });
    showNumbers(found, Math.max(...heap.values));
  } finally {
    byId("run").disabled = false;
  }
}

function showNumbers({ latencyMs, latenciesMs, firstRunMs, loadMs }, wasmMib) {
  const ms = (value) => `${value.toFixed(1)} ms`;
  const { p50, p90, p95, p99, min, mean } = latencyMs;
  const shares = { p50, p90, p95, p99, Least: min, Mean: mean };
  facts("numbers", {
    ...Object.fromEntries(Object.entries(shares).map(([name, value]) => [name, ms(value)])),
    Runs: latenciesMs.length,
    "First run": ms(firstRunMs),
    Loading: ms(loadMs),
    WebAssembly: `${wasmMib.toFixed(1)} MiB`,
  });
}

function facts(id, entries) {
  byId(id).replaceChildren(
    ...Object.entries(entries).map(([name, value]) => {
      const [entry, term, description] = ["div", "dt", "dd"].map((tag) =>
        document.createElement(tag),
      );
      term.textContent = name;
      description.textContent = value;
      entry.append(term, description);
      return entry;
    }),
  );
}

function say(line) {
  byId("status").textContent = line;
}

/** Do something; say in one line what went wrong. */
async function attempt(action) {
  byId("error").hidden = true;
  try {
    await action();
  } catch (error) {
    if (!runner) say("Nothing is loaded.");
    byId("error").textContent = error.code ? `${error.message} (${error.code})` : String(error);
    byId("error").hidden = false;
  }
}

await start();
