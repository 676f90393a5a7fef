// Who is behind an id. Names are asked for in one call for all that were wanted at the same time, and kept.

import { Code, ConnectError } from "@connectrpc/connect";

import type { User } from "../gen/parlance/user/v1/user_pb";
import { UserState } from "../gen/parlance/user/v1/user_pb";
import { requestId, type Services } from "./services";

/** The most ids of one call. */
const MOST_IDS = 1_000;

export class People {
  readonly #known = new Map<string, User>();
  /** Asked for, whether answered or not. */
  readonly #asked = new Set<string>();
  #wanted: string[] = [];

  constructor(
    private readonly users: Services["users"],
    private readonly changed: () => void,
  ) {}

  /** The name to show; until it is known, the id. */
  name(userId: string): string {
    const user = this.#known.get(userId);
    if (user === undefined) this.#want(userId);
    else if (user.state === UserState.DELETED) return "deleted user";
    return nameOf(user) || userId;
  }

  /** Those whose names begin so, who can be written to. */
  async search(prefix: string, signal: AbortSignal): Promise<User[]> {
    const { users } = await this.users.listUsers({ usernamePrefix: prefix, pageSize: 50 }, { signal });
    for (const user of users) this.#learn(user);
    return users.filter((user) => user.state === UserState.ACTIVE);
  }

  /** The user of this name, made if there is none. */
  async enter(username: string): Promise<User> {
    const found = await this.#find(username);
    if (found !== undefined) return found;
    try {
      const created = await this.users.createUser({ userId: username, username, requestId: requestId() });
      this.#learn(created);
      return created;
    } catch (error) {
      // Somebody else made it just now; or another user has that id.
      const found = ConnectError.from(error).code === Code.AlreadyExists ? await this.#find(username) : undefined;
      if (found === undefined) throw error;
      return found;
    }
  }

  async #find(username: string): Promise<User | undefined> {
    try {
      const user = await this.users.getUser({ username });
      this.#learn(user);
      return user;
    } catch (error) {
      if (ConnectError.from(error).code === Code.NotFound) return undefined;
      throw error;
    }
  }

  #want(userId: string): void {
    if (this.#asked.has(userId)) return;
    this.#asked.add(userId);
    if (this.#wanted.push(userId) === 1) queueMicrotask(() => void this.#ask());
  }

  async #ask(): Promise<void> {
    const userIds = this.#wanted.slice(0, MOST_IDS);
    this.#wanted = this.#wanted.slice(MOST_IDS);
    try {
      const { users } = await this.users.batchGetUsers({ userIds });
      for (const user of users) this.#learn(user);
      this.changed();
    } catch {
      // Asked for again when they are shown again.
      for (const userId of userIds) this.#asked.delete(userId);
    }
    if (this.#wanted.length > 0) void this.#ask();
  }

  #learn(user: User): void {
    this.#known.set(user.userId, user);
    this.#asked.add(user.userId);
  }
}

export function nameOf(user: User | undefined): string {
  return user === undefined ? "" : user.displayName || user.username;
}
