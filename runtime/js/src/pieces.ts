/** Tokens to text as they come: whole characters always. */

const HALF = "\ufffd"; // what a decoder writes for bytes that are no character yet
const CONTEXT = 6; // tokens of the prompt that are decoded with the first of the text

/**
 * The text behind a prompt, handed out in pieces.
 *
 * A token may be half a character, and its text may depend on the token before it: the tokens since
 * the last whole piece are decoded together, and what they add is the next piece.
 */
export class Pieces {
  readonly #decode: (ids: readonly number[]) => string;
  #tokens: number[];
  #before: string; // text of the tokens that gave theirs
  #known: number; // how many of the tokens these are

  constructor(decode: (ids: readonly number[]) => string, prompt: readonly number[]) {
    this.#decode = decode;
    // Without a token before it, the first would lose the space it begins with.
    this.#tokens = prompt.slice(-CONTEXT);
    this.#before = decode(this.#tokens);
    if (this.#before.endsWith(HALF)) {
      this.#tokens = [];
      this.#before = "";
    }
    this.#known = this.#tokens.length;
  }

  /** Return the text that is sure now. */
  add(token: number): string {
    this.#tokens.push(token);
    const text = this.#decode(this.#tokens);
    if (text.length <= this.#before.length || text.endsWith(HALF)) return "";
    const piece = text.slice(this.#before.length);
    this.#tokens = this.#tokens.slice(this.#known);
    this.#known = this.#tokens.length;
    this.#before = this.#decode(this.#tokens);
    return piece;
  }

  /** Return the rest: half characters, as the decoder writes them. */
  finish(): string {
    const rest = this.#decode(this.#tokens).slice(this.#before.length);
    this.#tokens = [];
    this.#before = "";
    this.#known = 0;
    return rest;
  }
}
