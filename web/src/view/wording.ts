// Puts times, names and entries of the log into words.

import { ConversationKind } from "../../gen/parlance/message/v1/conversation_pb";
import type { Event } from "../../gen/parlance/message/v1/event_pb";
import type { Conversation } from "../conversation";
import type { People } from "../people";
import { visible } from "../text";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "long", year: "numeric" });

/** The placeholder of a message that shows nothing. */
export const EMPTY = "(empty message)";

const DAY_MS = 86_400_000;

export function timeOfDay(ms: number): string {
  return clock.format(ms);
}

/** Formats the day for a divider. */
export function day(ms: number): string {
  const days = daysAgo(ms);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return days < 7 ? weekday.format(ms) : date.format(ms);
}

/** Formats a time briefly for a list. */
export function when(ms: number): string {
  if (ms === 0) return "";
  const days = daysAgo(ms);
  if (days === 0) return clock.format(ms);
  return days === 1 ? "Yesterday" : short.format(ms);
}

export function isSameDay(a: number, b: number): boolean {
  return midnight(a) === midnight(b);
}

function daysAgo(ms: number): number {
  return Math.round((midnight(Date.now()) - midnight(ms)) / DAY_MS);
}

function midnight(ms: number): number {
  return new Date(ms).setHours(0, 0, 0, 0);
}

export function list(names: readonly string[]): string {
  if (names.length > 3) return `${names.slice(0, 2).join(", ")} and ${names.length - 2} others`;
  return new Intl.ListFormat("en-GB").format(names);
}

export function titleOf(conversation: Conversation, people: People): string {
  if (conversation.kind === ConversationKind.DIRECT) return conversation.peerId ? people.name(conversation.peerId) : "…";
  return visible(conversation.title) ?? conversation.id;
}

export function subtitleOf(conversation: Conversation): string {
  if (conversation.kind === ConversationKind.DIRECT) return "Direct conversation";
  const kind = conversation.kind === ConversationKind.CHANNEL ? "Channel" : "Group";
  const { memberIds, hasMoreMembers } = conversation;
  if (memberIds === undefined) return kind;
  const count = `${memberIds.size}${hasMoreMembers ? "+" : ""} member${memberIds.size === 1 ? "" : "s"}`;
  return `${kind} · ${count}`;
}

/** Formats the last message for a list. */
export function previewOf(conversation: Conversation, people: People, me: string): string {
  const { last } = conversation;
  if (last === undefined) return "No messages yet";
  const text = last.deleteTime === undefined ? (visible(last.text) ?? EMPTY) : "Message deleted";
  if (last.senderId === me) return `You: ${text}`;
  return conversation.kind === ConversationKind.DIRECT ? text : `${people.name(last.senderId)}: ${text}`;
}

/** Returns true if one user added both members, which share one line. */
export function isOneAdding(a: Event, b: Event): boolean {
  return isAdding(a) && isAdding(b) && a.actorId === b.actorId;
}

function isAdding({ kind, actorId }: Event): boolean {
  return kind.case === "memberJoined" && kind.value.userId !== actorId;
}

/** Puts events into words; several only if one user added all of them. */
export function notice([event, ...more]: readonly Event[], people: People, me: string): string {
  if (event === undefined) return "";
  const name = (userId: string) => (userId === me ? "You" : people.name(userId));
  const { kind, actorId } = event;
  switch (kind.case) {
    case "memberJoined":
      if (kind.value.userId === actorId) return `${name(actorId)} joined`;
      return `${name(actorId)} added ${list([event, ...more].map((each) => added(each, people, me)))}`;
    case "memberLeft":
      return kind.value.userId === actorId
        ? `${name(actorId)} left`
        : `${name(actorId)} removed ${object(kind.value.userId, people, me)}`;
    case "conversationUpdated":
      // The entry shows the state after the change, not which of title, description, avatar and attributes changed.
      return `${name(actorId)} updated the conversation${kind.value.title ? `: “${kind.value.title}”` : ""}`;
    default:
      return "";
  }
}

function added({ kind }: Event, people: People, me: string): string {
  return kind.case === "memberJoined" ? object(kind.value.userId, people, me) : "";
}

function object(userId: string, people: People, me: string): string {
  return userId === me ? "you" : people.name(userId);
}
