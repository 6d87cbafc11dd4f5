// Answers requests, a line of JSON each on standard input, with onnxruntime-node.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import * as edge from "../../../runtime/js/dist/index.js";
import { folder } from "../../../runtime/js/dist/sources/node.js";
import { Tokens } from "../../../runtime/js/dist/tokens.js";
import { answer } from "./driver.mjs";

const require = createRequire(new URL("../../../runtime/js/package.json", import.meta.url));
const host = {
  edge: { ...edge, Tokens },
  ort: require("onnxruntime-node"),
  open: folder,
  read: async (path) => new Uint8Array(await readFile(path)),
};
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line), host))}\n`);
}
