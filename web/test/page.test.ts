// Tests of the web client with the real services and a real browser, in two windows and more.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";
import type { Browser } from "playwright-core";

import { ConversationKind } from "../gen/parlance/message/v1/conversation_pb";
import { requestId, type Services } from "../src/services";
import { eventually, openBrowser, Parlance, Person, send } from "./harness";

let parlance: Parlance;
let browser: Browser;
let services: Services;
let people: Person[] = [];

before(async () => {
  parlance = await Parlance.start();
  services = parlance.services;
  browser = await openBrowser();
});

after(async () => {
  try {
    await browser?.close();
    await parlance?.stop();
  } finally {
    parlance?.kill();
  }
});

afterEach(async () => {
  const there = people;
  people = [];
  for (const person of there) {
    assert.deepEqual(person.complaints, [], `errors in ${person.name}'s browser`);
    const strange = [...person.requested].filter((origin) => !parlance.origins.includes(origin));
    assert.deepEqual(strange, [], `${person.name}'s page sent requests to other origins`);
  }
  await Promise.all(there.map((person) => person.page.context().close()));
});

async function arrive(name: string, options?: Parameters<typeof Person.arrive>[3]): Promise<Person> {
  const person = await Person.arrive(browser, parlance, name, options);
  people.push(person);
  return person;
}

async function arriveAndSignIn(name: string): Promise<Person> {
  const person = await arrive(name);
  await person.signIn();
  return person;
}

/** Signs in in another tab of the same browser. */
async function openTab(first: Person, name: string): Promise<Person> {
  const person = await Person.arriveIn(first.page.context(), parlance, name);
  people.push(person);
  return person;
}

/** A user, and a group of theirs with others, made beside the page. */
async function group(id: string, names: string[]): Promise<string> {
  for (const name of names) {
    await services.users.createUser({ userId: name, username: name }).catch((error: unknown) => {
      if (ConnectError.from(error).code !== Code.AlreadyExists) throw error;
    });
  }
  const [creatorId, ...memberIds] = names;
  const request = { conversationId: id, title: id, kind: ConversationKind.GROUP, creatorId: creatorId ?? "", memberIds };
  await services.conversations.createConversation({ ...request, requestId: requestId() });
  return id;
}

test("two new users talk in a channel", async () => {
  const ada = await arriveAndSignIn("ada");
  await ada.channel("The Lobby");
  const user = await services.users.getUser({ username: "ADA" });
  assert.equal(user.userId, "ada", "created by signing in");

  const bob = await arriveAndSignIn("bob");
  await bob.channel("The Lobby");
  await ada.page.getByText("bob joined").waitFor();
  await ada.says("hello");
  await bob.sees("hello");
  await ada.page.getByText("Seen by bob").waitFor();
  await bob.says("hi\nwith a second line");
  await ada.sees("hi");
  assert.deepEqual(await ada.texts(), ["hello", "hi\nwith a second line"]);

  // Not sent yet: others see that the user is typing, for a while.
  await eventually(async () => {
    await bob.box.pressSequentially("…");
    assert.equal(await ada.page.locator(".typing").innerText(), "BO\nbob is typing");
  });
  await ada.page.locator(".typing:empty").waitFor({ state: "attached" });
  await bob.says("I am done");
  await ada.sees("I am done");

  await bob.page.getByRole("button", { name: "Leave" }).click();
  await bob.page.getByRole("button", { name: "Leave?" }).click();
  await ada.page.getByText("bob left").waitFor();
  await bob.page.getByText("You are no longer in The Lobby.").waitFor();
  assert.equal(await bob.row("The Lobby").count(), 0);
});

test("an existing user is chosen from the list and remembered in the window", async () => {
  await group("reading", ["carla", "dan"]);
  const carla = await arrive("carla");
  await carla.page.getByLabel("Your name").fill("car");
  await carla.page.locator(".people").getByRole("button", { name: "carla" }).click();
  await carla.open("reading");
  await carla.page.reload();
  await carla.page.getByRole("heading", { name: "reading" }).waitFor();
  assert.equal(await carla.page.locator(".sidebar header .name").innerText(), "carla");
});

test("a taken name is refused with a readable message", async () => {
  const eve = await arrive("eve");
  await services.users.createUser({ userId: "eve", username: "another" });
  await eve.page.getByLabel("Your name").fill("eve");
  await eve.page.getByRole("button", { name: "Create" }).click();
  await eve.page.getByText("That name belonged to another user before. Choose another one.").waitFor();
});

test("scrolling up loads the whole history without gaps and keeps the scroll position", async () => {
  await group("history", ["fay", "gil"]);
  const texts = Array.from({ length: 180 }, (_, at) => `line ${at + 1}`);
  await send(services, "history", "gil", texts);
  const fay = await arriveAndSignIn("fay");
  await fay.open("history");
  await fay.sees("line 180");
  const box = fay.page.locator(".scroll");
  const atBottom = () => box.evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight < 5);
  assert(await atBottom(), "the view starts at the newest message");
  assert((await fay.texts()).length < 180, "not all of it is read at once");
  await eventually(async () => {
    await box.hover();
    await fay.page.mouse.wheel(0, -1_500);
    assert.equal(await fay.page.getByText("This is the beginning of").count(), 1);
  });
  assert.deepEqual(await fay.texts(), texts);
  await fay.page.getByText("gil", { exact: false }).first().waitFor();

  // New lines below do not move the lines being read.
  await box.evaluate((element) => (element.scrollTop = element.scrollHeight / 2));
  const before = await box.evaluate((element) => element.scrollTop);
  await send(services, "history", "gil", ["line 181"]);
  await fay.page.getByRole("button", { name: "New messages" }).waitFor();
  assert.equal(await box.evaluate((element) => element.scrollTop), before);
  await fay.page.getByRole("button", { name: "New messages" }).click();
  await eventually(async () => assert(await atBottom()));
});

test("unread counts increase, and opening the conversation clears them", async () => {
  await group("busy", ["hal", "ivy"]);
  await group("quiet", ["hal", "ivy"]);
  await send(services, "busy", "ivy", ["before"]);
  const hal = await arriveAndSignIn("hal");
  const badge = hal.row("busy").locator(".badge");
  assert.equal(await badge.textContent(), "1 unread");
  await hal.open("quiet");
  await send(services, "busy", "ivy", ["one", "two"]);
  await hal.row("busy").getByText("3 unread").waitFor();
  await eventually(async () => assert.equal(await hal.page.title(), "(3) Parlance"));
  assert.match(await hal.row("busy").innerText(), /ivy: two/);
  assert.equal(await hal.page.getByRole("navigation").getByRole("link").first().locator(".name").innerText(), "busy");

  await hal.open("busy");
  await badge.waitFor({ state: "detached" });
  await eventually(async () => assert.equal(await hal.page.title(), "Parlance"));
  await hal.page.locator(".divider", { hasText: "New" }).waitFor();
  await eventually(async () => {
    const { items } = await services.conversations.listConversations({ actorId: "hal" });
    assert.deepEqual(items.map(({ membership }) => membership?.unreadCount), [0n, 0n]);
  });
  // Read in another window of the same user: counted here, cleared from there.
  await hal.open("quiet");
  await send(services, "busy", "ivy", ["three"]);
  await hal.row("busy").getByText("1 unread").waitFor();
  await services.conversations.markRead({ conversationId: "busy", actorId: "hal", sequence: 1_000n });
  await badge.waitFor({ state: "detached" });
});

test("a direct conversation and a group are created by choosing users", async () => {
  await group("old", ["jan", "kim", "leo"]);
  const jan = await arriveAndSignIn("jan");
  const kim = await arriveAndSignIn("kim");
  const dialog = await jan.start("Direct");
  await dialog.getByLabel("People").fill("ki");
  await dialog.getByRole("button", { name: "kim" }).click();
  await jan.page.getByRole("heading", { name: "kim" }).waitFor();
  await jan.says("psst");
  await kim.row("psst").waitFor();
  await kim.open("jan");
  await kim.sees("psst");
  await jan.page.getByText("Seen", { exact: true }).waitFor();

  const making = await jan.start("Group");
  await making.getByLabel("Title").fill("Three of us");
  for (const name of ["kim", "leo"]) await making.getByRole("checkbox", { name }).check();
  await making.getByRole("button", { name: "Start with 2" }).click();
  await jan.page.getByRole("heading", { name: "Three of us" }).waitFor();
  await jan.page.getByText("Group · 3 members").waitFor();
  await jan.page.getByText("You added kim and leo").waitFor();
  await kim.row("Three of us").waitFor();
});

test("edits and deletions are seen as they happen", async () => {
  await group("drafts", ["mia", "ned"]);
  const mia = await arriveAndSignIn("mia");
  const ned = await arriveAndSignIn("ned");
  await mia.open("drafts");
  await ned.open("drafts");
  await mia.says("frist");
  await mia.says("second");
  await ned.sees("second");
  await mia.line("frist").hover();
  await mia.line("frist").getByRole("button", { name: "Edit message" }).click();
  const edit = mia.page.getByLabel("Text of the message");
  await edit.fill("first");
  await edit.press("Enter");
  await ned.sees("first");
  assert.match(await ned.line("first").innerText(), /edited/);

  // By keyboard: arrow up edits the last message.
  await mia.box.press("ArrowUp");
  await mia.page.getByLabel("Text of the message").fill("third");
  await mia.page.getByRole("button", { name: "Save" }).click();
  await ned.sees("third");

  await mia.line("third").hover();
  await mia.line("third").getByRole("button", { name: "Delete message" }).click();
  await mia.line("third").getByRole("button", { name: "Delete?" }).click();
  await ned.sees("Message deleted");
  assert.deepEqual(await ned.texts(), ["first", "Message deleted"]);
  assert.equal(await ned.page.getByRole("button", { name: "Edit message" }).count(), 0, "messages of others cannot be edited");
});

test("message text is never interpreted as HTML", async () => {
  const markup = '<img src=x onerror="document.title=\'broken into\'"><b>bold</b> &amp; javascript:alert(1)';
  await services.users.createUser({ userId: "odd", username: "odd", displayName: "<i>odd</i>" });
  await group("markup", ["pia", "odd"]);
  const pia = await arriveAndSignIn("pia");
  await pia.open("markup");
  await send(services, "markup", "odd", [markup]);
  await pia.sees("onerror");
  assert.deepEqual(await pia.texts(), [markup]);
  assert.match(await pia.row("markup").innerText(), /<i>odd<\/i>: <img/);
  assert.equal(await pia.page.locator(".thread img, .thread b, .thread i, .sidebar img").count(), 0);
  assert.equal(await pia.page.title(), "Parlance");
});

test("a message that shows nothing has a placeholder, and can be edited and deleted", async () => {
  await group("blank", ["zoe", "abe"]);
  await send(services, "blank", "zoe", ["\u2800", "\u200b\u200d"]);
  await send(services, "blank", "abe", ["\u3164"]);
  const zoe = await arriveAndSignIn("zoe");
  await zoe.open("blank");
  await eventually(async () => assert.equal(await zoe.page.locator(".text .none", { hasText: "(empty message)" }).count(), 3));
  assert.match(await zoe.row("blank").innerText(), /abe: \(empty message\)/);
  const last = zoe.page.locator(".line.is-own").last();
  await last.locator(".none").hover();
  await last.getByRole("button", { name: "Edit message" }).click();
  await zoe.page.getByLabel("Text of the message").fill("something");
  await zoe.page.getByRole("button", { name: "Save" }).click();
  await zoe.sees("something");
  const first = zoe.page.locator(".line.is-own").first();
  await first.locator(".none").hover();
  await first.getByRole("button", { name: "Delete message" }).click();
  await first.getByRole("button", { name: "Delete?" }).click();
  await zoe.sees("Message deleted");
});

test("a removed member is notified, and a typed message is refused in plain words", async () => {
  await group("club", ["quin", "rob"]);
  const rob = await arriveAndSignIn("rob");
  await rob.open("club");
  await services.conversations.removeMember({ conversationId: "club", actorId: "quin", userId: "rob" });
  await rob.page.getByText("You are no longer in club.").waitFor();
  await rob.page.getByRole("main").getByText("There is no such conversation, or you are not a member of it.").waitFor();

  await services.users.deactivateUser({ userId: "rob" });
  await rob.page.getByText("The account rob is deactivated.").waitFor();
});

test("after a restart of the services each message appears once and in order", async () => {
  await group("restart", ["sue", "tom"]);
  const sue = await arriveAndSignIn("sue");
  await sue.open("restart");
  await sue.says("before");
  await sue.sees("before");

  await parlance.stop();
  await sue.page.locator(".sidebar .status", { hasText: "Reconnecting…" }).waitFor();
  await sue.says("typed meanwhile");
  await sue.page.locator(".is-draft", { hasText: "typed meanwhile" }).waitFor();
  // While the window has no network, others continue.
  await sue.page.context().setOffline(true);
  await parlance.again();
  await send(services, "restart", "tom", ["one", "two", "three"]);
  assert.equal(await sue.page.getByText("three").count(), 0);
  await sue.page.context().setOffline(false);

  await sue.isConnected();
  await sue.sees("typed meanwhile");
  await sue.says("after");
  await sue.sees("after");
  await send(services, "restart", "tom", ["last"]);
  await sue.sees("last");
  const expected = ["before", "one", "two", "three", "typed meanwhile", "after", "last"];
  assert.deepEqual(await sue.texts(), expected);
  const stored = await services.messages.listMessages({ conversationId: "restart", actorId: "tom", order: 2 });
  assert.deepEqual(stored.messages.map(({ text }) => text), expected, "stored once each");

  // The browser reports each failed attempt to connect, and nothing else.
  sue.complaints.splice(0, sue.complaints.length, ...sue.complaints.filter((text) => !text.includes("net::ERR_")));
});

test("on a phone one pane is shown at a time and nothing overflows", async () => {
  await group("pocket", ["una", "vic"]);
  await send(services, "pocket", "vic", ["a".repeat(400), "hello"]);
  const una = await arrive("una", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  await una.signIn();
  const list = una.page.getByRole("navigation");
  await una.open("pocket");
  await una.sees("hello");
  assert.equal(await list.isVisible(), false);
  const width = await una.page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(width, 360);
  await una.says("from the pocket");
  await una.sees("from the pocket");
  await una.line("from the pocket").tap();
  await una.page.getByRole("button", { name: "Edit message" }).tap();
  await una.page.getByLabel("Text of the message").press("Escape");
  await una.page.getByRole("link", { name: "Back to the list" }).tap();
  await list.waitFor();
});

test("every action works with the keyboard", async () => {
  await group("keys", ["wim", "xia"]);
  await send(services, "keys", "xia", ["hello"]);
  const wim = await arrive("wim");
  const { keyboard } = wim.page;
  await wim.page.locator("#name:focus").waitFor();
  await keyboard.type("wim");
  await keyboard.press("Enter");
  await wim.isConnected();
  const focused = () => wim.page.evaluate(() => {
    const element = document.activeElement === document.body ? null : document.activeElement;
    return element?.getAttribute("aria-label") ?? element?.textContent ?? "";
  });
  const tabTo = async (what: RegExp, key = "Tab") => {
    for (let presses = 0; presses < 12; presses += 1) {
      if (what.test(await focused())) return;
      await keyboard.press(key);
    }
    assert.fail(`no ${what} to be reached by ${key}; ${await focused()}`);
  };
  await tabTo(/keys/);
  await keyboard.press("Enter");
  await wim.sees("hello");
  await eventually(async () => assert.match(await focused(), /^Message to keys/));
  await keyboard.type("hi");
  await keyboard.press("Enter");
  await wim.sees("hi");
  await tabTo(/^Delete message/, "Shift+Tab");
  await keyboard.press("Enter");
  await keyboard.press("Enter");
  await wim.sees("Message deleted");

  await tabTo(/^Start a conversation/, "Shift+Tab");
  await keyboard.press("Enter");
  await wim.page.getByRole("dialog").waitFor();
  await keyboard.press("Escape");
  await wim.page.getByRole("dialog").waitFor({ state: "detached" });
});

test("eight tabs of one user share one stream, and continue when the tab that has it is closed", async () => {
  await group("tabs", ["amy", "ben"]);
  const first = await arrive("amy");
  const tabs = [first];
  while (tabs.length < 8) tabs.push(await openTab(first, "amy"));
  for (const tab of tabs) {
    await tab.signIn();
    await tab.open("tabs");
  }
  const expected: string[] = [];
  const everyTabShows = (texts: string[]) =>
    Promise.all(tabs.map((tab) => eventually(async () => assert.deepEqual(await tab.texts(), texts))));
  for (const [at, tab] of tabs.entries()) {
    await tab.says(`from tab ${at}`);
    expected.push(`from tab ${at}`);
    await first.sees(`from tab ${at}`);
  }
  await everyTabShows(expected);
  assert.deepEqual(tabs.map((tab) => tab.streams), [1, 0, 0, 0, 0, 0, 0, 0]);

  const during = Array.from({ length: 40 }, (_, at) => `while it closes ${at}`);
  const sending = send(services, "tabs", "ben", during);
  await tabs.shift()?.page.close();
  people.shift();
  await sending;
  await everyTabShows([...expected, ...during]);
  for (const tab of tabs) await tab.isConnected();
  assert.equal(tabs.reduce((sum, tab) => sum + tab.streams, 0), 1, "one of them has opened a stream");
  await tabs[3]?.says("from another tab");
  await everyTabShows([...expected, ...during, "from another tab"]);

  // Hidden or not, all are live again after a restart.
  await parlance.stop();
  for (const tab of tabs) await tab.page.locator(".sidebar .status", { hasText: "Reconnecting…" }).waitFor();
  await parlance.again();
  for (const tab of tabs) await tab.isConnected();
  await send(services, "tabs", "ben", ["after the restart"]);
  await everyTabShows([...expected, ...during, "from another tab", "after the restart"]);
  for (const tab of tabs) tab.complaints.splice(0, tab.complaints.length, ...tab.complaints.filter((text) => !text.includes("net::ERR_")));
});

test("with too many users in one browser, the page says so, and connects when another user has left", async () => {
  const names = ["user-1", "user-2", "user-3", "user-4", "user-5", "user-6", "user-7"];
  await group("crowd", names);
  const [first = "", ...others] = names;
  const tabs = [await arriveAndSignIn(first)];
  for (const name of others.slice(0, 3)) {
    const tab = await openTab(tabs[0] as Person, name);
    await tab.signIn();
    tabs.push(tab);
  }
  const tooMany = [];
  for (const name of others.slice(3)) {
    const tab = await openTab(tabs[0] as Person, name);
    await tab.page.getByLabel("Your name").fill(name);
    await tab.page.getByLabel("Your name").press("Enter");
    await tab.page.getByText("This browser allows too few connections for so many users.").first().waitFor();
    tooMany.push(tab);
  }
  await tabs[1]?.open("crowd");
  await tabs[1]?.says("calls still pass");
  await tabs[1]?.sees("calls still pass");
  for (const tab of tabs.slice(1)) await tab.page.getByRole("button", { name: "Sign out" }).click();
  for (const tab of tooMany) await tab.isConnected();
});
