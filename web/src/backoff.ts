// How long to wait before the next try: longer each time, and never in step with others.

const FIRST_MS = 100;
const LAST_MS = 5_000;

export class Backoff {
  #failures = 0;

  constructor(private readonly random: () => number = Math.random) {}

  /** A try has succeeded. */
  reset(): void {
    this.#failures = 0;
  }

  /** A try has failed; gives the pause, at least as long as the server has asked for. */
  next(askedForMs = 0): number {
    const longest = Math.min(FIRST_MS * 2 ** Math.min(this.#failures, 10), LAST_MS);
    this.#failures += 1;
    return Math.max(longest * this.random(), Math.min(askedForMs, LAST_MS));
  }
}
