// Tests of the stream that the tabs of a user share, against fake services and fake locks: a leader that closes, hangs, or
// passes on nothing. The behaviour in a real browser is tested in page.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";

import { allCaughtUp, caughtUp, cursor, eventually, FakeLocks, FakeServices, heartbeat, message, shown } from "./fakes";
import { type Options, Session } from "../src/session";
import { Tabs } from "../src/tabs";

let browsers = 0;

/** Tabs of one user in one browser. */
class Browser {
  readonly locks = new FakeLocks();
  readonly #address = `http://127.0.0.1:${(browsers += 1)}`;
  readonly #open: { session: Session; running: Promise<void> }[] = [];

  async tab(services: FakeServices, userId = "ada", options: Partial<Options> = {}): Promise<Session> {
    const tabs = new Tabs({ address: this.#address, userId, locks: this.locks as unknown as LockManager });
    const session = new Session(services.all, userId, { changed: () => undefined, random: () => 0, tabs, ...options });
    this.#open.push({ session, running: session.run() });
    await tabs.ready;
    return session;
  }

  /** Closes all tabs, whatever the test does. */
  static async with(test: (browser: Browser) => Promise<void>): Promise<void> {
    const browser = new Browser();
    try {
      await test(browser);
    } finally {
      for (const { session } of browser.#open) session.close();
      await Promise.all(browser.#open.map(({ running }) => running));
    }
  }
}

const isLive = (session: Session) => eventually(() => assert.equal(session.connection.state, "live"));

test("tabs share one stream, and the next one continues it from its own positions", () => Browser.with(async (browser) => {
  const services = new FakeServices();
  services.scripts = [[heartbeat("one"), allCaughtUp, "wait", message(11n), "hang"], [message(12n), allCaughtUp, "hang"]];
  const [first, second, third] = [await browser.tab(services), await browser.tab(services), await browser.tab(services)];
  for (const tab of [first, second, third]) await isLive(tab);
  services.proceed();
  for (const tab of [first, second, third]) await eventually(() => assert.deepEqual(shown(tab), [11]));
  assert.equal(services.subscriptions.length, 1);

  first.close();
  for (const tab of [second, third]) await eventually(() => assert.deepEqual(shown(tab), [11, 12]));
  for (const tab of [second, third]) await isLive(tab);
  assert.deepEqual(services.subscriptions.map(cursor), [[10n], [11n]]);
  assert.deepEqual(services.subscriptions.map(({ epoch }) => epoch), ["", "one"]);
}));

test("a tab that the leader keeps silent takes over", () => Browser.with(async (browser) => {
  const services = new FakeServices();
  services.scripts = [[allCaughtUp, "hang"], [message(11n), allCaughtUp, "hang"]];
  const hung = await browser.tab(services, "ada", { silenceMs: 1e6 });
  await isLive(hung);
  const other = await browser.tab(services, "ada", { silenceMs: 50 });
  await eventually(() => assert.deepEqual(shown(other), [11]));
  // The one that hung follows again.
  await eventually(() => assert.deepEqual(shown(hung), [11]));
}));

test("a tab that misses an entry reads it in a stream of its own", async () => {
  for (const hole of [message(12n), caughtUp(11n)]) {
    await Browser.with(async (browser) => {
      const services = new FakeServices();
      // The leader starts at another position than the second tab.
      services.head = 11n;
      services.scripts = [[allCaughtUp, "wait", hole, "hang"], [message(11n), message(12n), allCaughtUp, "hang"]];
      const first = await browser.tab(services);
      await isLive(first);
      services.head = 10n;
      const second = await browser.tab(services);
      await isLive(second);
      services.proceed();
      await eventually(() => assert.deepEqual(shown(second), [11, 12]));
      await isLive(first);
      assert.deepEqual(services.subscriptions.map(cursor), [[11n], [10n]]);
    });
  }
});

test("when the leader loses its stream, all tabs reconnect", () => Browser.with(async (browser) => {
  const services = new FakeServices();
  services.scripts = [[allCaughtUp, "wait"], ["wait", message(11n), allCaughtUp, "hang"]];
  const [first, second] = [await browser.tab(services), await browser.tab(services)];
  for (const tab of [first, second]) await isLive(tab);
  services.proceed();
  for (const tab of [first, second]) await eventually(() => assert.equal(tab.connection.state, "reconnecting"));
  services.proceed();
  for (const tab of [first, second]) await isLive(tab);
  for (const tab of [first, second]) assert.deepEqual(shown(tab), [11]);
}));

test("a tab does not trust the positions that it has in another epoch", () => Browser.with(async (browser) => {
  const services = new FakeServices();
  services.scripts = [[heartbeat("one"), allCaughtUp, "wait", heartbeat("two"), "hang"], [heartbeat("two"), allCaughtUp, "hang"]];
  const [first, second] = [await browser.tab(services), await browser.tab(services)];
  for (const tab of [first, second]) await isLive(tab);
  services.proceed();
  await eventually(() => assert.deepEqual(services.subscriptions.map(({ epoch }) => epoch), ["", "one"]));
  for (const tab of [first, second]) await isLive(tab);
}));

test("the streams of four users leave connections for calls, and a fifth user waits", () => Browser.with(async (browser) => {
  const services = new FakeServices();
  services.scripts = [[allCaughtUp, "hang"]];
  const four = [];
  for (const userId of ["a", "b", "c", "d"]) four.push(await browser.tab(services, userId));
  for (const tab of four) await isLive(tab);
  const fifth = [await browser.tab(services, "e"), await browser.tab(services, "e")];
  for (const tab of fifth) await eventually(() => assert.equal(tab.connection.state, "crowded"));
  four[2]?.close();
  for (const tab of fifth) await isLive(tab);
  assert.equal(services.subscriptions.length, 5);
}));
