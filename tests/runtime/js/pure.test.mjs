// The parts that need no onnxruntime, by Node's own test runner.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sha256Hex } from "../../../runtime/js/dist/digest.js";
import { EdgeError, firstLine, wrapped } from "../../../runtime/js/dist/errors.js";
import { parseJson } from "../../../runtime/js/dist/json.js";
import { Pieces } from "../../../runtime/js/dist/pieces.js";
import { latencyOf, timeRuns } from "../../../runtime/js/dist/profile.js";
import { externalLocations } from "../../../runtime/js/dist/protobuf.js";
import { readSafetensors } from "../../../runtime/js/dist/safetensors.js";
import { nativeFolder } from "../../../runtime/js/dist/sources/native.js";
import { picked } from "../../../runtime/js/dist/sources/picked.js";
import { url } from "../../../runtime/js/dist/sources/url.js";
import { floatsOf } from "../../../runtime/js/dist/tensors.js";

const bytes = (text) => new TextEncoder().encode(text);

function refusal(action, code) {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof EdgeError, String(error));
    assert.equal(error.code, code);
    assert.ok(!error.message.includes("\n"));
    return error.message;
  }
  return assert.fail("expected it refused");
}

async function refusalOf(promise, code) {
  const error = await promise.then(
    () => assert.fail("expected it refused"),
    (found) => found,
  );
  return refusal(() => {
    throw error;
  }, code);
}

describe("safetensors", () => {
  const file = (header, size = 0) => {
    const head = bytes(typeof header === "string" ? header : JSON.stringify(header));
    const whole = new Uint8Array(8 + head.length + size);
    new DataView(whole.buffer).setBigUint64(0, BigInt(head.length), true);
    whole.set(head, 8);
    whole.forEach((_, place) => {
      if (place >= 8 + head.length) whole[place] = place - 8 - head.length;
    });
    return whole;
  };
  const entry = (dtype, shape, begin, end) => ({ dtype, shape, data_offsets: [begin, end] });

  test("tensors of every type are read, aligned or not", () => {
    const header = {
      __metadata__: { format: "pt" },
      a: entry("U8", [3], 0, 3),
      b: entry("F32", [2, 1], 3, 11),
    };
    const found = readSafetensors(file(header, 11), "x");
    assert.deepEqual([...found.keys()], ["a", "b"]);
    assert.deepEqual([...found.get("a").data], [0, 1, 2]);
    assert.deepEqual(found.get("b").dims, [2, 1]);
    const expected = new Float32Array(new Uint8Array([3, 4, 5, 6, 7, 8, 9, 10]).buffer);
    assert.deepEqual(found.get("b").data, expected);
    const types = [
      "F64",
      "F32",
      "F16",
      "I64",
      "I32",
      "I16",
      "I8",
      "U64",
      "U32",
      "U16",
      "U8",
      "BOOL",
    ];
    const sizes = [8, 4, 2, 8, 4, 2, 1, 8, 4, 2, 1, 1];
    types.forEach((type, place) => {
      const tensor = readSafetensors(
        file({ t: entry(type, [3], 0, 3 * sizes[place]) }, 3 * sizes[place]),
        "x",
      ).get("t");
      assert.equal(tensor.data.length, 3);
    });
  });

  test("a tensor without elements has no bytes, and a scalar has one element", () => {
    const header = {
      a: entry("F32", [384, 0], 0, 0),
      b: entry("I64", [], 0, 8),
      c: entry("F32", [0], 8, 8),
    };
    const found = readSafetensors(file(header, 8), "x");
    assert.deepEqual(
      [...found.values()].map(({ data }) => data.length),
      [0, 1, 0],
    );
  });

  test("a name that JavaScript's objects have is a name", () => {
    const found = readSafetensors(
      file(`{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1),
      "x",
    );
    assert.equal(found.get("__proto__").data.length, 1);
  });

  const one = entry("F32", [2], 0, 8);
  const bad = [
    ["nothing", new Uint8Array(0), /0 bytes, expected a header's length/],
    ["half a length", new Uint8Array(7), /7 bytes/],
    [
      "a header beyond the file",
      file("{}").subarray(0, 9),
      /a header of 2 bytes, expected at most 1/,
    ],
    ["an endless header", new Uint8Array(16).fill(255), /18446744073709551615 bytes/],
    ["no JSON", file("{"), /no JSON header/],
    ["deep JSON", file("[".repeat(1000)), /deeper than 64/],
    ["no UTF-8", file("\u0000").fill(255, 8), /not UTF-8/],
    ["an array", file("[]"), /expected a JSON object/],
    [
      "a name twice",
      file(`{"a":${JSON.stringify(one)},"\\u0061":${JSON.stringify(one)}}`, 8),
      /"a" twice/,
    ],
    ["an entry that is none", file({ a: 3 }), /no entry/],
    ["an unknown type", file({ a: { ...one, dtype: "F8" } }, 8), /dtype "F8"/],
    ["a type of Object's", file({ a: { ...one, dtype: "constructor" } }, 8), /dtype "constructor"/],
    ["a negative size", file({ a: { ...one, shape: [-2] } }, 8), /shape \[-2\]/],
    ["a fraction", file({ a: { ...one, shape: [1.5] } }, 8), /shape/],
    [
      "a size beyond numbers",
      file(`{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}`, 8),
      /shape/,
    ],
    [
      "a product that overflows",
      file({ a: { ...one, shape: [2 ** 32, 2 ** 32] } }, 8),
      /8 bytes, expected/,
    ],
    [
      "a product beyond numbers",
      file({ a: { ...one, shape: Array(40).fill(2 ** 52) } }, 8),
      /expected Infinity/,
    ],
    ["too many axes", file({ a: { ...one, shape: Array(65).fill(1) } }, 8), /at most 64/],
    ["no offsets", file({ a: { dtype: "F32", shape: [2] } }, 8), /data_offsets/],
    ["three offsets", file({ a: { ...one, data_offsets: [0, 8, 8] } }, 8), /data_offsets/],
    ["an end before the beginning", file({ a: { ...one, data_offsets: [8, 0] } }, 8), /-8 bytes/],
    ["a range outside", file({ a: entry("F32", [2], 0, 8) }, 4), /4 bytes of data, expected 8/],
    ["a gap", file({ a: one, b: entry("F32", [1], 12, 16) }, 16), /its data at 12, expected 8/],
    ["an overlap", file({ a: one, b: entry("F32", [2], 4, 12) }, 12), /its data at 4, expected 8/],
    ["a rest", file({ a: one }, 9), /9 bytes of data, expected 8/],
  ];
  for (const [name, content, message] of bad) {
    test(`${name} is refused`, () => {
      assert.match(
        refusal(() => readSafetensors(content, "x"), "damaged"),
        message,
      );
    });
  }
});

describe("external data", () => {
  const varint = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)]);
  const field = (number, content) => [
    ...varint(number * 8 + 2),
    ...varint(content.length),
    ...content,
  ];
  const text = (number, value) => field(number, [...bytes(value)]);
  const entry = (...parts) => field(13, parts.flat());
  const location = (value) => entry(text(1, "location"), text(2, value));
  const found = (model) => [...externalLocations(Uint8Array.from(model), "m")];
  const initializer = (content) => field(7, field(5, content));

  test("locations are found wherever a tensor is", () => {
    const tensor = location("here");
    const attribute = (number, content) => field(1, field(5, field(number, content)));
    const sparse = (place) => field(place, tensor);
    const places = {
      initializer: field(7, field(5, tensor)),
      "sparse values": field(7, field(15, sparse(1))),
      "sparse indices": field(7, field(15, sparse(2))),
      tensor: field(7, attribute(5, tensor)),
      tensors: field(7, attribute(10, tensor)),
      "sparse attribute": field(7, attribute(22, sparse(1))),
      "sparse attributes": field(7, attribute(23, sparse(2))),
      subgraph: field(7, attribute(6, field(5, tensor))),
      subgraphs: field(7, attribute(11, field(5, tensor))),
      "a subgraph's node": field(7, attribute(6, attribute(5, tensor))),
      function: field(25, field(7, field(5, field(5, tensor)))),
    };
    for (const [name, model] of Object.entries(places))
      assert.deepEqual(found(model), ["here"], name);
  });

  test("whatever a parser would take of repeated keys and values counts", () => {
    const twice = entry(text(1, "x"), text(1, "location"), text(2, "a"), text(2, "b"));
    const last = entry(text(1, "location"), text(1, "x"), text(2, "c"));
    assert.deepEqual(found(initializer([...twice, ...last])), ["a", "b", "c"]);
    assert.deepEqual(found(initializer(entry(text(1, "location")))), [""]);
    assert.deepEqual(found(initializer(entry(text(1, "offset"), text(2, "4096")))), []);
  });

  test("a message that comes in parts is read in all of them", () => {
    assert.deepEqual(found([...initializer(location("a")), ...initializer(location("b"))]), [
      "a",
      "b",
    ]);
  });

  test("fields that are of no interest are skipped", () => {
    const others = [8, 7, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1d, 1, 2, 3, 4, ...text(2, "producer")];
    assert.deepEqual(found([...others, ...initializer(location("a"))]), ["a"]);
    assert.deepEqual(found([]), []);
  });

  const nested = (depth) => {
    let graph = [];
    for (let level = 0; level < depth; level += 1) graph = field(1, field(5, field(6, graph)));
    return field(7, graph);
  };
  test("subgraphs are followed down to 64 messages", () => {
    assert.deepEqual(found(nested(21)), []);
    assert.match(
      refusal(() => found(nested(22)), "damaged"),
      /nested deeper than 64/,
    );
  });

  const bad = {
    "a length beyond the end": [0x3a, 5, 1],
    "an endless number": Array(11).fill(0xff),
    "a number without an end": [0x3a, 0x80],
    "a group": [0x3b, 0x3c],
    "a field number of 0": [0x02, 0],
    "a wire type that is none": [0x3f],
    "eight bytes that are not there": [0x11, 1, 2],
    "a length of 2^63": [0x3a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
    "an inner length beyond its message": [0x3a, 2, 0x2a, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1],
  };
  for (const [name, model] of Object.entries(bad)) {
    test(`${name} is refused`, () => {
      assert.match(
        refusal(() => found(model), "damaged"),
        /expected an ONNX model/,
      );
    });
  }
});

describe("JSON", () => {
  test("is parsed to 64 levels", () => {
    const deep = (levels) => bytes(`${"[".repeat(levels)}${"]".repeat(levels)}`);
    assert.ok(Array.isArray(parseJson(deep(64))));
    assert.throws(() => parseJson(deep(65)), SyntaxError);
  });

  test("brackets inside strings do not count", () => {
    assert.deepEqual(parseJson(bytes(`["${"[".repeat(99)}", "\\"[\\\\"]`)), [
      "[".repeat(99),
      '"[\\',
    ]);
  });

  test("names count where they are asked to be unique, in each object by itself", () => {
    assert.deepEqual(parseJson(bytes('{"a":"a","b":{"a":1}}'), true), { a: "a", b: { a: 1 } });
    assert.throws(() => parseJson(bytes('{"b":{"a":1,"a" :2}}'), true), /"a" twice/);
    assert.deepEqual(parseJson(bytes('{"a":1,"a":2}')), { a: 2 });
  });
});

describe("sha256", () => {
  const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  const million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

  test("is the same with and without the platform's", async (context) => {
    const hashes = () =>
      Promise.all([new Uint8Array(0), new Uint8Array(1e6).fill(97)].map(sha256Hex));
    assert.deepEqual(await hashes(), [empty, million]);
    const { crypto } = globalThis;
    context.after(() =>
      Object.defineProperty(globalThis, "crypto", { value: crypto, configurable: true }),
    );
    for (const missing of [undefined, {}]) {
      Object.defineProperty(globalThis, "crypto", { value: missing, configurable: true });
      assert.deepEqual(await hashes(), [empty, million]);
    }
  });
});

describe("errors", () => {
  test("memory is told from other failures, and only the first line is kept", () => {
    assert.equal(
      wrapped(new RangeError("Array buffer allocation failed"), "x").code,
      "out_of_memory",
    );
    assert.equal(wrapped(new Error("std::bad_alloc"), "x").code, "out_of_memory");
    assert.equal(
      wrapped(new Error("shape mismatch\n  at node 3"), "x").message,
      "x: shape mismatch",
    );
    const own = new EdgeError("closed", "y");
    assert.equal(wrapped(own, "x"), own);
    assert.equal(firstLine(new TypeError("")), "TypeError");
    assert.equal(firstLine("text\nmore"), "text");
  });
});

describe("pieces", () => {
  test("a character of two tokens comes with its second", () => {
    const names = { 1: [0xc3], 2: [0xa9], 3: [0x61] };
    const decode = (ids) =>
      new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => names[id])));
    const pieces = new Pieces(decode, [3]);
    assert.deepEqual(
      [1, 2, 3, 1].map((id) => pieces.add(id)),
      ["", "é", "a", ""],
    );
    assert.equal(pieces.finish(), "\ufffd");
  });
});

describe("profiles", () => {
  test("percentiles are numpy's", () => {
    const { p50, p90, p95, p99, min, mean } = latencyOf([4, 1, 3, 2]);
    assert.deepEqual([p50, min, mean], [2.5, 1, 2.5]);
    for (const [found, expected] of [
      [p90, 3.7],
      [p95, 3.85],
      [p99, 3.97],
    ]) {
      assert.ok(Math.abs(found - expected) < 1e-12);
    }
  });

  test("at least 5 runs are counted, and 2 are not", async () => {
    let calls = 0;
    const slow = async () => {
      calls += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const { latenciesMs, memory } = await timeRuns(slow, { budgetMs: 1 });
    assert.deepEqual([latenciesMs.length, calls], [5, 7]);
    assert.ok(latenciesMs.every((latency) => latency > 15));
    assert.ok(memory.kind === "rss" && memory.peakMib >= memory.afterMib && memory.beforeMib > 10);
    assert.equal((await timeRuns(slow, { runs: 3, warmup: 0 })).latenciesMs.length, 3);
    assert.equal(calls, 10);
  });
});

describe("tensors", () => {
  test("16-bit floats are widened exactly", () => {
    const bits = [0x3c00, 0xc000, 0x3555, 0x0001, 0x7bff, 0x7c00, 0xfc00, 0x8000];
    const values = [1, -2, 0.333251953125, 2 ** -24, 65504, Infinity, -Infinity, -0];
    const tensor = { type: "float16", dims: [8], data: Uint16Array.from(bits) };
    assert.deepEqual([...floatsOf(tensor)], values);
    assert.ok(Number.isNaN(floatsOf({ ...tensor, data: Uint16Array.of(0x7e00) })[0]));
  });
});

describe("sources", () => {
  test("a URL's parts are encoded, and more than was expected is not read", async () => {
    const asked = [];
    const fetch = async (address) => {
      asked.push(address);
      return new Response(new Uint8Array(10));
    };
    const source = url("http://host/b.edge/", { fetch });
    assert.equal((await source.read("adapters/a b?.x", 10)).length, 10);
    assert.deepEqual(asked, ["http://host/b.edge/adapters/a%20b%3F.x"]);
    await refusalOf(source.read("x", 9), "damaged");
  });

  test("what a server or a network refuses is said in one line", async () => {
    const answers = { 404: "not_found", 410: "not_found", 500: "runtime", 403: "runtime" };
    for (const [status, code] of Object.entries(answers)) {
      const fetch = async () => new Response(null, { status: Number(status) });
      await refusalOf(url("http://host", { fetch }).read("x", 1), code);
    }
    const fetch = async () => {
      throw new TypeError("fetch failed");
    };
    await refusalOf(url("http://host", { fetch }).read("x", 1), "runtime");
  });

  test("a picked folder's files are found below its name", async () => {
    const file = (path) =>
      Object.defineProperty(new File(["abc"], "x"), "webkitRelativePath", { value: path });
    const source = picked([file("b.edge/manifest.json"), file("b.edge/adapters/a.safetensors")]);
    assert.equal(source.name, "b.edge");
    assert.equal((await source.read("adapters/a.safetensors", 3)).length, 3);
    await refusalOf(source.read("adapters/a.safetensors", 2), "damaged");
    await refusalOf(source.read("other", 3), "not_found");
  });

  const phone = (extra = {}) => ({
    read: async () => bytes("abc"),
    stat: async (path) => {
      if (path.endsWith("missing")) throw new Error("no such file");
      return { size: 3, modified: 17 };
    },
    ...extra,
  });

  test("a phone's folder is read by what the app has for it", async () => {
    const source = nativeFolder("/data/b.edge/", phone({ sha256: async () => "ABC" }));
    assert.equal(source.path("model.onnx"), "/data/b.edge/model.onnx");
    assert.deepEqual(await source.stat("x"), { size: 3, identity: "17" });
    assert.equal(await source.sha256("x"), "abc");
    assert.equal((await source.read("x", 3)).length, 3);
    await refusalOf(source.read("x", 2), "damaged");
    await refusalOf(source.stat("missing"), "not_found");
    const broken = nativeFolder(
      "/b",
      phone({
        read: async () => {
          throw new Error("I/O");
        },
      }),
    );
    await refusalOf(broken.read("x", 3), "runtime");
  });

  test("a phone remembers what was checked where the app lets it", async () => {
    const kept = new Map();
    const remember = {
      get: async (key) => kept.get(key) ?? null,
      set: async (key, value) => kept.set(key, value),
    };
    const source = nativeFolder("/b", phone({ remember }));
    assert.equal(await source.wasChecked(["a 1"]), false);
    await source.rememberChecked(["a 1"]);
    assert.equal(await source.wasChecked(["a 1"]), true);
    assert.equal(await source.wasChecked(["a 2"]), false);
    const plain = nativeFolder("/b", phone());
    assert.deepEqual(
      [plain.wasChecked, plain.rememberChecked, plain.sha256],
      [undefined, undefined, undefined],
    );
  });
});
