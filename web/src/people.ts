// The users by id. Names needed at the same time are fetched in one call, and cached.

import { Code, ConnectError } from "@connectrpc/connect";

import type { User } from "../gen/parlance/user/v1/user_pb";
import { UserState } from "../gen/parlance/user/v1/user_pb";
import { requestId, type Services } from "./services";
import { visible } from "./text";

/** The most ids in one call. */
const MAX_IDS = 1_000;

export class People {
  readonly #known = new Map<string, User>();
  /** The ids requested so far, answered or not. */
  readonly #requested = new Set<string>();
  #wanted: string[] = [];

  constructor(
    private readonly users: Services["users"],
    private readonly changed: () => void,
  ) {}

  /** Returns the name to show; the id until the name is known. */
  name(userId: string): string {
    const user = this.#known.get(userId);
    if (user === undefined) this.#want(userId);
    else if (user.state === UserState.DELETED) return "deleted user";
    return nameOf(user) || userId;
  }

  /** Returns the active users whose names have this prefix. */
  async search(prefix: string, signal: AbortSignal): Promise<User[]> {
    const { users } = await this.users.listUsers({ usernamePrefix: prefix, pageSize: 50 }, { signal });
    for (const user of users) this.#learn(user);
    return users.filter((user) => user.state === UserState.ACTIVE);
  }

  /** Returns the user of this name, which is created if missing. */
  async enter(username: string): Promise<User> {
    const found = await this.#find(username);
    if (found !== undefined) return found;
    try {
      const created = await this.users.createUser({ userId: username, username, requestId: requestId() });
      this.#learn(created);
      return created;
    } catch (error) {
      // Another client has created it concurrently, or another user has that id.
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
    if (this.#requested.has(userId)) return;
    this.#requested.add(userId);
    if (this.#wanted.push(userId) === 1) queueMicrotask(() => void this.#fetch());
  }

  async #fetch(): Promise<void> {
    const userIds = this.#wanted.slice(0, MAX_IDS);
    this.#wanted = this.#wanted.slice(MAX_IDS);
    try {
      const { users } = await this.users.batchGetUsers({ userIds });
      for (const user of users) this.#learn(user);
      this.changed();
    } catch {
      // Fetched again when they are shown again.
      for (const userId of userIds) this.#requested.delete(userId);
    }
    if (this.#wanted.length > 0) void this.#fetch();
  }

  #learn(user: User): void {
    this.#known.set(user.userId, user);
    this.#requested.add(user.userId);
  }
}

export function nameOf(user: User | undefined): string {
  return user === undefined ? "" : (visible(user.displayName) ?? user.username);
}
