// The tabs of one user in this browser, which share one stream. Over HTTP/1.1 a browser opens six connections to a host,
// and a stream occupies one: with a stream for each tab, the seventh tab and all calls would wait for ever.
//
// - A Web Lock elects the leader. It holds the stream and passes each item on over a BroadcastChannel. Its lock passes to
//   another tab when it closes; a tab that hears nothing of it for too long takes the lock.
// - Each tab has its own positions and checks every item against them. A new leader resumes the stream from its own; a tab
//   that misses an entry nevertheless becomes the leader, too. So no item needs to be sent twice.
// - The leaders of different users share a few connections, each a lock of its own. A leader without one waits.

/** A notification among the tabs of a user. */
export type Note =
  /** The leader has begun to connect. */
  | { kind: "began" }
  /** The leader has received this SubscribeResponse. Encoded: an older tab may have another version of this page. */
  | { kind: "item"; bytes: Uint8Array<ArrayBuffer> }
  /** The stream of the leader has ended; it connects again after this time. */
  | { kind: "lost"; retryMs: number; attempt: number }
  /** The leader waits until other users have closed their tabs. */
  | { kind: "crowded" }
  /** A tab needs to know the state of the stream. */
  | { kind: "hello" }
  /** The leader need not wait any longer; only in this attempt, if it has a number. */
  | { kind: "wake"; attempt?: number };

/** The most streams of different users. The browser's other two connections to the service remain for calls. */
const MAX_STREAMS = 4;

/** The most notifications that wait for this tab. Beyond it, it opens the stream itself, from its own positions. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
const OVERHEAD_BYTES = 128;

interface Options {
  /** The address of the service that the streams come from. */
  address: string;
  userId: string;
  locks?: LockManager;
}

export class Tabs {
  /** Called when this tab becomes the leader, and when it is the leader no longer. */
  onRole: () => void = () => undefined;
  /** Called at the leader when another tab needs to know the state of the stream. */
  onHello: () => void = () => undefined;
  /** Called at the leader when another tab wants it to connect now. */
  onWake: (attempt: number | undefined) => void = () => undefined;
  /** Resolves once the role of this tab is known. */
  readonly ready: Promise<void>;

  readonly #channel: BroadcastChannel;
  readonly #locks: LockManager;
  readonly #lock: string;
  readonly #connection: string;
  /** Over HTTP/2 and newer, which browsers use with TLS only, the number of streams is not limited in this way. */
  readonly #isLimited: boolean;
  readonly #closing = new AbortController();
  /** Withdraws the request for the lock. */
  #requested = new AbortController();
  /** Gives up the lock. Undefined while another tab is the leader. */
  #resign: (() => void) | undefined;
  #waiting: Note[] = [];
  #waitingBytes = 0;
  #notify: () => void = () => undefined;
  readonly #stopWaiting = () => this.#notify();

  constructor({ address, userId, locks = navigator.locks }: Options) {
    this.#locks = locks;
    this.#lock = `parlance/stream/${address}/${userId}`;
    this.#connection = `parlance/connection/${address}`;
    this.#isLimited = new URL(address).protocol === "http:";
    // Open before anything is read from the service: what is committed later is passed on to this tab.
    this.#channel = new BroadcastChannel(this.#lock);
    this.#channel.onmessage = ({ data }: MessageEvent<Note>) => this.#take(data);
    this.ready = this.#enter();
  }

  /** True while this tab holds the stream. */
  get leads(): boolean {
    return this.#resign !== undefined;
  }

  /** Notifies the other tabs. */
  post(note: Note): void {
    if (!this.#closing.signal.aborted) this.#channel.postMessage(note);
  }

  /** Becomes the leader, although another tab is: it hangs, or this tab needs a stream from its own positions. */
  takeOver(): void {
    if (this.leads) return;
    this.#requested.abort();
    void this.#lead({ steal: true });
  }

  /** Returns the next notification of the leader. */
  async next(signal: AbortSignal): Promise<Note> {
    for (;;) {
      signal.throwIfAborted();
      const note = this.#waiting.shift();
      if (note !== undefined) {
        this.#waitingBytes -= sizeOf(note);
        return note;
      }
      await new Promise<void>((resolve) => {
        this.#notify = resolve;
        signal.addEventListener("abort", this.#stopWaiting, { once: true });
      });
      signal.removeEventListener("abort", this.#stopWaiting);
    }
  }

  /** Waits for one of the connections that streams may occupy, and occupies it until `signal`. */
  async connection(signal: AbortSignal, onWait: () => void): Promise<void> {
    if (!this.#isLimited) return;
    for (let number = 0; number < MAX_STREAMS; number += 1) {
      if (await this.#occupy(number, signal, { ifAvailable: true })) return;
    }
    onWait();
    const search = new AbortController();
    const stop = () => search.abort();
    signal.addEventListener("abort", stop);
    const requests = Array.from({ length: MAX_STREAMS }, async (_, number) => {
      if (await this.#occupy(number, signal, { signal: search.signal })) stop();
    });
    await Promise.all(requests);
    signal.removeEventListener("abort", stop);
    signal.throwIfAborted();
  }

  close(): void {
    this.#closing.abort();
    this.#channel.close();
    this.#requested.abort();
    this.#resign?.();
  }

  async #enter(): Promise<void> {
    await new Promise<void>((resolve) => void this.#lead({ ifAvailable: true }, resolve).then(() => resolve()));
    if (!this.leads) this.#queue();
  }

  /** Becomes the leader after the others. */
  #queue(): void {
    if (this.#closing.signal.aborted) return;
    this.#requested = new AbortController();
    void this.#lead({ signal: this.#requested.signal });
  }

  /** Requests the lock, and keeps it until this tab closes or another one takes it. */
  async #lead(options: LockOptions, granted: () => void = () => undefined): Promise<void> {
    let resign: (() => void) | undefined;
    try {
      await this.#locks.request(this.#lock, options, async (lock) => {
        if (lock === null || this.#closing.signal.aborted) return;
        await new Promise<void>((resolve) => {
          this.#resign = resign = resolve;
          this.#forget();
          granted();
          this.onRole();
        });
      });
    } catch {
      // The request was withdrawn, or another tab has taken the lock.
    }
    if (resign === undefined || this.#resign !== resign) return;
    this.#resign = undefined;
    this.onRole();
    this.#queue();
  }

  /** Occupies a connection until `signal`. Returns false if it cannot. */
  async #occupy(number: number, signal: AbortSignal, options: LockOptions): Promise<boolean> {
    return new Promise((resolve) => {
      const request = this.#locks.request(`${this.#connection}/${number}`, options, async (lock) => {
        // Granted too late: another connection is occupied.
        if (lock === null || signal.aborted || options.signal?.aborted) return;
        resolve(true);
        await new Promise<void>((done) => signal.addEventListener("abort", () => done(), { once: true }));
      });
      request.then(() => resolve(false), () => resolve(false));
    });
  }

  #take(note: Note): void {
    if (note.kind === "hello" || note.kind === "wake") {
      if (!this.leads) return;
      if (note.kind === "hello") this.onHello();
      else this.onWake(note.attempt);
      return;
    }
    // Also of a leader, which may have been replaced without noticing it yet.
    this.#waiting.push(note);
    this.#waitingBytes += sizeOf(note);
    if (this.#waitingBytes > MAX_WAITING_BYTES) {
      this.#forget();
      this.takeOver();
    }
    this.#notify();
  }

  #forget(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
  }
}

function sizeOf(note: Note): number {
  return OVERHEAD_BYTES + (note.kind === "item" ? note.bytes.length : 0);
}

/** Returns the tabs of a user, or undefined if this page cannot share: Web Locks need HTTPS or this machine's own address. */
export function tabsOf(address: string, userId: string): Tabs | undefined {
  const canShare = typeof BroadcastChannel === "function" && "locks" in navigator;
  return canShare ? new Tabs({ address, userId }) : undefined;
}
