// Takes the screenshot of the web client for the documentation: `node build/picture.mjs FILE`.

import { ConversationKind } from "../gen/parlance/message/v1/conversation_pb";
import { openBrowser, Parlance, Person, send } from "./harness";

const [, , file = "page.png"] = process.argv;
const parlance = await Parlance.start();
const browser = await openBrowser();
try {
  const { users, conversations, messages } = parlance.services;
  const names = { ada: "Ada Lovelace", bob: "Bob Kahn", edsger: "Edsger Dijkstra", grace: "Grace Hopper" };
  for (const [userId, displayName] of Object.entries(names)) {
    await users.createUser({ userId, username: userId, displayName });
  }
  const begin = async (creatorId: string, title: string, memberIds: string[], kind = ConversationKind.GROUP) => {
    const details = kind === ConversationKind.DIRECT ? {} : { title };
    return (await conversations.createConversation({ kind, creatorId, memberIds, ...details })).conversationId;
  };
  const order = await begin("edsger", "Order 1234", ["ada"]);
  const release = await begin("grace", "Release on Friday", ["ada", "bob", "edsger"]);
  const lobby = await begin("bob", "Lobby", ["ada", "grace"], ConversationKind.CHANNEL);
  const direct = await begin("bob", "", ["ada"], ConversationKind.DIRECT);

  await send(parlance.services, order, "edsger", ["The parcel is on its way."]);
  await send(parlance.services, lobby, "grace", ["Who has the key to the terrace?"]);
  await send(parlance.services, direct, "bob", ["Do you have a minute?", "It is about the import"]);
  await send(parlance.services, release, "grace", [
    "Morning! The new build is on the staging machine.",
    "Please try it before noon, I would like to ship it today.",
  ]);
  await send(parlance.services, release, "edsger", ["On it."]);
  await send(parlance.services, release, "ada", [
    "I ran the import on last month's data: 41 seconds, it was nine minutes before.",
    "The totals agree to the cent.",
  ]);
  await send(parlance.services, release, "bob", ["That was the slow one. Well done!"]);

  const ada = await Person.arrive(browser, parlance, "ada", { viewport: { width: 1080, height: 660 } });
  await ada.signIn();
  await ada.open("Release on Friday");
  await ada.sees("That was the slow one");
  await ada.says("Shall we, Grace?");
  await ada.sees("Shall we");
  for (const actorId of ["bob", "grace"]) {
    await conversations.markRead({ conversationId: release, actorId, sequence: 1_000n });
  }
  await ada.page.getByText("Seen by").waitFor();
  await messages.sendTyping({ conversationId: release, actorId: "grace" });
  await ada.page.getByText("Grace Hopper is typing").waitFor();
  await ada.page.mouse.move(700, 5);
  await ada.page.screenshot({ path: file });
  await ada.page.close();
} finally {
  await browser.close();
  await parlance.stop();
}
