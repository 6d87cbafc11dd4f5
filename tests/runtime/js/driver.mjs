// Does what a test asks for with the runner for JavaScript, in Node and in a browser alike.

// JSON of tensors and typed arrays: numbers, which float32 and small integers survive unchanged.
export function plain(value) {
  if (typeof value === "bigint") return Number(value);
  if (ArrayBuffer.isView(value)) return Array.from(value, plain);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

function failure(error) {
  const { name, code, message } = error;
  return { error: { name, code, message, text: String(error.stack) } };
}

async function attempt(action) {
  try {
    return { value: plain(await action()) };
  } catch (error) {
    return failure(error);
  }
}

// Load a bundle and call methods one after another; a method's failure is an answer too. What is
// no method is read.
async function call({ bundle, load = {}, source = {}, calls = [] }, host) {
  let runner;
  const loaded = await attempt(async () => {
    runner = await host.edge.EdgeRunner.load(host.open(bundle, source), { ort: host.ort, ...load });
    return null;
  });
  if (!runner) return { loaded, answers: [] };
  const answers = [];
  for (const [name, ...given] of calls) {
    const member = () =>
      typeof runner[name] === "function" ? runner[name](...given) : runner[name];
    answers.push(await attempt(member));
  }
  await runner.close();
  return { loaded, answers };
}

// Run the integer products; return the names of those that differ, and how many there were.
async function integers({ folder }, host) {
  const [model, file] = await Promise.all(
    ["integers.onnx", "integers.safetensors"].map((name) => host.read(`${folder}/${name}`)),
  );
  const tensors = host.edge.readSafetensors(file, "integers.safetensors");
  const session = await host.ort.InferenceSession.create(model);
  const feeds = {};
  for (const name of session.inputNames) {
    const { type, data, dims } = tensors.get(name);
    feeds[name] = new host.ort.Tensor(type, data, dims);
  }
  const found = await session.run(feeds);
  const differs = session.outputNames.filter((name) => {
    const [expected, output] = [tensors.get(name), found[name]];
    const same = output.data.every((value, place) => value === expected.data[place]);
    return !same || output.type !== "int32" || output.dims.join() !== expected.dims.join();
  });
  return { differs, count: session.outputNames.length };
}

// Classify texts with two adapters one after another and all at once, then close in between.
async function overlap({ bundle, text }, host) {
  const runner = await host.edge.EdgeRunner.load(host.open(bundle), { ort: host.ort, threads: 1 });
  const jobs = [...runner.adapters, ...runner.adapters].map((adapter) => ({ adapter }));
  const alone = [];
  for (const job of jobs) alone.push(await runner.classify(text, job));
  const together = await Promise.all(jobs.map((job) => runner.classify(text, job)));
  const { inputs } = await runner.tokenize(text);
  const outcome = (run) =>
    run.then(
      () => "answered",
      (error) => error.code,
    );
  const under = [outcome(runner.run(inputs)), outcome(runner.run(inputs))];
  await Promise.resolve(); // both are with onnxruntime now
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
  const closing = runner.close();
  const late = outcome(runner.run(inputs));
  const afterClose = await Promise.all([...under, late]);
  await closing;
  return { alone, together, afterClose };
}

// Time runs of a bundle that stays loaded from one request to the next.
const kept = new Map();
async function time({ bundle, runs, shape }, host) {
  if (!kept.has(bundle)) {
    const options = { ort: host.ort, threads: 1 };
    kept.set(bundle, await host.edge.EdgeRunner.load(host.open(bundle), options));
  }
  return kept.get(bundle).profile({ runs, shape, warmup: 1 });
}

// Return the ids of texts, and their text again, with a tokenizer's file of any kind.
async function tokens({ file, texts }, host) {
  const bundle = {
    name: "a folder",
    manifest: { tokenizer: { file, pad_id: 0 } },
    read: host.read,
  };
  const tokenizer = await host.edge.Tokens.open(bundle);
  return texts.map((text) => {
    const { ids } = tokenizer.encode(text);
    return { ids, text: tokenizer.decode(ids) };
  });
}

const verbs = { call, integers, overlap, time, tokens };

export async function answer(requests, host) {
  const answers = [];
  for (const request of requests) {
    answers.push(await attempt(() => verbs[request.verb](request, host)));
  }
  return answers;
}
