#!/usr/bin/env node
/**
 * Serves the demo and bundles: `node demo/serve.mjs [--port 8080] [--host 127.0.0.1] NAME.edge …`.
 *
 * Any static server does: this one only spares the list of bundles, `demo/bundles.json`.
 */

import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { basename, extname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const BUNDLES = "/demo/bundles/";
const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".mjs": "text/javascript; charset=utf-8",
  ".wasm": "application/wasm",
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    port: { type: "string", default: "8080" },
    host: { type: "string", default: "127.0.0.1" },
  },
});
const bundles = new Map(positionals.map((path) => [basename(resolve(path)), resolve(path)]));

/** Return the file of an address, or null where there is none in a served folder. */
async function fileOf(pathname) {
  const path = decodeURIComponent(pathname);
  const [name, ...rest] = path.startsWith(BUNDLES) ? path.slice(BUNDLES.length).split("/") : [];
  const folder = name === undefined ? ROOT : bundles.get(name);
  if (folder === undefined) return null;
  const root = await realpath(folder);
  const file = await realpath(join(root, name === undefined ? path : rest.join("/")));
  return file.startsWith(root + (root.endsWith(sep) ? "" : sep)) ? file : null;
}

async function answer(request, response) {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  if (pathname === "/" || pathname === "/demo") {
    response.writeHead(302, { location: "/demo/" }).end();
    return;
  }
  if (pathname === "/demo/bundles.json") {
    response.writeHead(200, { "content-type": TYPES[".json"] });
    response.end(
      JSON.stringify([...bundles.keys()].map((name) => `bundles/${encodeURIComponent(name)}`)),
    );
    return;
  }
  const file = await fileOf(pathname === "/demo/" ? "/demo/index.html" : pathname);
  const found = file && (await stat(file));
  if (!found?.isFile()) throw new Error("no such file");
  const type = TYPES[extname(file)] ?? "application/octet-stream";
  response.writeHead(200, { "content-type": type, "content-length": found.size });
  createReadStream(file).pipe(response);
}

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.writeHead(404).end());
});
server.listen(Number(values.port), values.host, () => {
  process.stdout.write(`http://${values.host}:${server.address().port}/demo/\n`);
});
