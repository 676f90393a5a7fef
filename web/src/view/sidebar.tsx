// The list of conversations, and the status of the connection.

import type { Conversation } from "../conversation";
import { hrefOf, use } from "./context";
import { Avatar, ConversationAvatar, Icon } from "./parts";
import { list, previewOf, titleOf, when } from "./wording";

interface Props {
  openId: string | undefined;
  onStart: () => void;
  onLeave: () => void;
}

export function Sidebar({ openId, onStart, onLeave }: Props) {
  const { session, people } = use();
  const name = people.name(session.me);
  return (
    <nav class="sidebar" aria-label="Conversations">
      <header>
        <Avatar name={name} seed={session.me} />
        <strong class="name">{name}</strong>
        <button class="plain" onClick={onStart} aria-label="Start a conversation" title="Start a conversation">
          <Icon name="add" />
        </button>
        <button class="plain" onClick={onLeave} aria-label="Sign out" title="Sign out">
          <Icon name="leave" />
        </button>
      </header>
      <ConnectionStatus />
      <ul>
        {session.conversations.map((conversation) => (
          <Row key={conversation.id} conversation={conversation} isOpen={conversation.id === openId} />
        ))}
        {session.connection.state === "live" && session.conversations.length === 0 && (
          <li class="empty fine">
            Nothing here yet.{" "}
            <button class="link" onClick={onStart}>
              Start a conversation
            </button>
          </li>
        )}
      </ul>
    </nav>
  );
}

/** The status of the connection; empty while it is live. */
export function ConnectionStatus() {
  const { state } = use().session.connection;
  return (
    <p class="status" role="status">
      {STATUS[state]}
    </p>
  );
}

const STATUS = {
  connecting: "Connecting…",
  live: "",
  reconnecting: "Reconnecting…",
  crowded: "This browser allows too few connections for so many users. Close the tabs of another user to connect.",
  ended: "",
} as const;

function Row({ conversation, isOpen }: { conversation: Conversation; isOpen: boolean }) {
  const { session, people } = use();
  const { unread } = conversation;
  const typists = conversation.typists(Date.now()).map((userId) => people.name(userId));
  return (
    <li>
      <a
        href={hrefOf(conversation.id)}
        class={unread > 0 ? "conversation is-unread" : "conversation"}
        aria-current={isOpen ? "page" : undefined}
      >
        <ConversationAvatar conversation={conversation} />
        <span class="name">{titleOf(conversation, people)}</span>
        <time>{when(conversation.activityMs)}</time>
        {typists.length > 0 ? (
          <span class="preview is-typing">{list(typists)} typing…</span>
        ) : (
          <span class="preview">{previewOf(conversation, people, session.me)}</span>
        )}
        {unread > 0 && (
          <span class="badge">
            {unread > 99 ? "99+" : unread}
            <span class="unseen"> unread</span>
          </span>
        )}
      </a>
    </li>
  );
}
