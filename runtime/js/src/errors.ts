/**
 * What went wrong, for a program; the message says it to a person.
 *
 * - `invalid_argument`: a call's argument is not what was asked for.
 * - `not_found`: a file or an adapter that does not exist.
 * - `damaged`: a file has other bytes than were exported, or is malformed.
 * - `unsupported`: a newer format, an older onnxruntime, a task or host that cannot do it.
 * - `foreign_adapter`: an adapter that was made for another base.
 * - `runtime`: onnxruntime refused or failed.
 * - `out_of_memory`: there was no memory for it.
 * - `closed`: the runner was closed.
 */
export type ErrorCode =
  | "invalid_argument"
  | "not_found"
  | "damaged"
  | "unsupported"
  | "foreign_adapter"
  | "runtime"
  | "out_of_memory"
  | "closed";

/** A mistake that the caller can fix, said in one line: `where: found …, expected …; remedy`. */
export class EdgeError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "EdgeError";
    this.code = code;
  }
}

/** Return what an error of a library says, without the rest. */
export function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const line = text.trim().split("\n", 1)[0]?.trim();
  return line || (error instanceof Error ? error.name : "unknown error");
}

/** Wrap an error of onnxruntime, of memory or of the platform in one line. */
export function wrapped(error: unknown, where: string): EdgeError {
  if (error instanceof EdgeError) return error;
  const reason = firstLine(error);
  const memory = /out of memory|bad_alloc|OOM|allocation failed|failed to allocate|cannot grow/i;
  const code = memory.test(reason) ? "out_of_memory" : "runtime";
  return new EdgeError(code, `${where}: ${reason}`, error);
}
