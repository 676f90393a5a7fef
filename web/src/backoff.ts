// Exponential back-off with jitter between attempts.

const FIRST_MS = 100;
const LAST_MS = 5_000;

export class Backoff {
  #failures = 0;

  constructor(private readonly random: () => number = Math.random) {}

  /** Starts over after a success. */
  reset(): void {
    this.#failures = 0;
  }

  /** Counts a failure and returns the pause before the next attempt, which is at least the delay that the server requested. */
  next(requestedMs = 0): number {
    const longest = Math.min(FIRST_MS * 2 ** Math.min(this.#failures, 10), LAST_MS);
    this.#failures += 1;
    return Math.max(longest * this.random(), Math.min(requestedMs, LAST_MS));
  }
}
