/** How much memory WebAssembly and JavaScript have in this page. */

const MIB = 2 ** 20;

/**
 * Return a function that reads memory in MiB; `heapMib` is null where the browser does not tell.
 *
 * A page without cross-origin isolation cannot ask for its memory as a whole, and no browser tells
 * what its WebAssembly has: the memories that onnxruntime makes are noted as they are made.
 */
export function watchMemory() {
  const memories = [];
  WebAssembly.Memory = new Proxy(WebAssembly.Memory, {
    construct(target, options) {
      const memory = new target(...options);
      memories.push(memory);
      return memory;
    },
  });
  return () => ({
    wasmMib: memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0) / MIB,
    heapMib: performance.memory ? performance.memory.usedJSHeapSize / MIB : null,
  });
}
