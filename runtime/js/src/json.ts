/** JSON of a file that may be hostile: bounded depth, and no name twice but in vocabularies. */

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const MAX_DEPTH = 64;

/**
 * Parse UTF-8 bytes.
 *
 * @param bytes - The document.
 * @param unique - Whether a name that an object has twice is an error; `JSON.parse` takes the last.
 * @throws SyntaxError if it is no JSON, or nested deeper than 64.
 */
export function parseJson(bytes: Uint8Array, unique = false): Json {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new SyntaxError("not UTF-8");
  }
  checkStructure(text, unique);
  return JSON.parse(text) as Json;
}

/** Return whether a value is an object, not an array and not null. */
export function isObject(value: unknown): value is { [name: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Walk the tokens before they are parsed: engines overflow their stack at some depth of their own. */
function checkStructure(text: string, unique: boolean): void {
  const names: (Set<string> | null)[] = []; // of each open object; null for an array
  for (let place = 0; place < text.length; place += 1) {
    switch (text.charCodeAt(place)) {
      case 0x7b: // {
      case 0x5b: // [
        names.push(text[place] === "{" ? new Set() : null);
        if (names.length > MAX_DEPTH) throw new SyntaxError(`nested deeper than ${MAX_DEPTH}`);
        break;
      case 0x7d: // }
      case 0x5d: // ]
        names.pop();
        break;
      case 0x22: {
        const end = endOfString(text, place);
        if (unique) noteName(text, place, end, names.at(-1));
        place = end;
        break;
      }
      default:
    }
  }
}

function endOfString(text: string, start: number): number {
  for (let place = start + 1; place < text.length; place += 1) {
    const code = text.charCodeAt(place);
    if (code === 0x22) return place;
    if (code === 0x5c) place += 1; // the character behind a backslash ends nothing
  }
  throw new SyntaxError("a string without an end");
}

const NAME_END = /[ \t\r\n]*:/y;

/** Remember a string if it is a name, which a colon follows. */
function noteName(text: string, start: number, end: number, names: Set<string> | null | undefined) {
  NAME_END.lastIndex = end + 1;
  if (!names || !NAME_END.test(text)) return;
  const name = JSON.parse(text.slice(start, end + 1)) as string; // "\u0061" is "a"
  if (names.has(name)) throw new SyntaxError(`the name ${JSON.stringify(name)} twice`);
  names.add(name);
}
