// Small components that several others use.

import { useState } from "preact/hooks";

import { ConversationKind } from "../../gen/parlance/message/v1/conversation_pb";
import type { Conversation } from "../conversation";
import { use } from "./context";
import { titleOf } from "./wording";

const HUES = 8;

/** A round avatar: the initials of a name, on a colour derived from `seed`. */
export function Avatar({ name, seed, sign }: { name: string; seed: string; sign?: string | undefined }) {
  return (
    <span class={`avatar hue-${hash(seed) % HUES}`} aria-hidden="true">
      {sign ?? initials(name)}
    </span>
  );
}

export function ConversationAvatar({ conversation }: { conversation: Conversation }) {
  const { people } = use();
  const name = titleOf(conversation, people);
  const isChannel = conversation.kind === ConversationKind.CHANNEL;
  return <Avatar name={name} seed={conversation.peerId ?? conversation.id} sign={isChannel ? "#" : undefined} />;
}

function initials(name: string): string {
  const words = name.split(/[\s._-]+/).filter((word) => word !== "");
  const letters = words.length > 1 ? [words[0], words.at(-1)].map((word) => [...(word ?? "")][0]) : [...name].slice(0, 2);
  return letters.join("").toUpperCase();
}

function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return (value ^ (value >>> 13)) >>> 0;
}

const PATHS = {
  add: "M12 5v14M5 12h14",
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  delete: "M4 7h16M9 7V4.5h6V7M6.5 7l1 13h9l1-13M10.5 11v5.5M13.5 11v5.5",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l.8-4L16.5 4.3a1.5 1.5 0 0 1 2.1 0l1.1 1.1a1.5 1.5 0 0 1 0 2.1L8 19.2zM14.5 6.3l3.2 3.2",
  leave: "M14 4H6v16h8M10 12h11M17.5 8l4 4-4 4",
  send: "M12 19V5M5.5 11.5L12 5l6.5 6.5",
} as const;

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Logo() {
  return <img class="logo" src="/icon.svg" alt="" width="32" height="32" />;
}

/** A button that asks for confirmation before an action that cannot be undone. */
export function ConfirmButton({ words, label, icon, onSure }: {
  words: string;
  label?: string;
  icon?: keyof typeof PATHS;
  onSure: () => void;
}) {
  const [isAsking, setIsAsking] = useState(false);
  return (
    <button
      class={isAsking ? "plain is-asking" : "plain"}
      aria-label={isAsking ? undefined : (label ?? words)}
      title={isAsking ? undefined : (label ?? words)}
      onBlur={() => setIsAsking(false)}
      onClick={() => (isAsking ? onSure() : setIsAsking(true))}
    >
      {isAsking ? `${words}?` : icon ? <Icon name={icon} /> : words}
    </button>
  );
}
