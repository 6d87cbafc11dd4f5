/** Where a bundle's files come from: the one interface that Node, browsers and phones implement. */

/** What is known of a file without reading it. */
export interface FileStat {
  /** Size in bytes. */
  readonly size: number;
  /** Changes whenever the file does: its time of change, and its inode where there is one. */
  readonly identity: string;
}

/**
 * A bundle's folder, wherever it is.
 *
 * Names are relative, with "/", and were checked to stay inside. Errors are `EdgeError`s:
 * `not_found` where there is no such file.
 */
export interface BundleSource {
  /** How errors name the folder. */
  readonly name: string;

  /**
   * Return a file's bytes.
   *
   * @param file - Its name.
   * @param limit - Bytes it has at most: of a larger one `damaged` is thrown, and no more is read.
   */
  read(file: string, limit: number): Promise<Uint8Array>;

  /**
   * Return a file's size and identity, without reading it. A source that cannot leaves this out:
   * its files are hashed whenever they are read.
   */
  stat?(file: string): Promise<FileStat>;

  /** Return a file's sha256 in hex without holding it in memory; left out, it is read. */
  sha256?(file: string): Promise<string>;

  /** Return the path by which onnxruntime opens a file itself; left out, it gets the bytes. */
  path?(file: string): string;

  /**
   * Return whether these files were hashed before; left out, they never were.
   *
   * @param files - A line a file: its name, recorded sha256, size and identity.
   */
  wasChecked?(files: readonly string[]): Promise<boolean>;

  /** Remember that they were. A failure to do so costs time only, and is not an error. */
  rememberChecked?(files: readonly string[]): Promise<void>;
}
