// A message, stored or still being sent. Its text is always rendered as text, never as markup.

import { useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Message } from "../../gen/parlance/message/v1/message_pb";
import type { Conversation, Draft } from "../conversation";
import { visible } from "../text";
import { use } from "./context";
import { Avatar, Icon, ConfirmButton } from "./parts";
import { EMPTY, timeOfDay } from "./wording";

interface Props {
  message: Message;
  timeMs: number;
  /** First or last in a group of messages. */
  isFirst: boolean;
  isLast: boolean;
  showsSender: boolean;
  isEditing: boolean;
  /** Starts or stops editing a message. */
  onEdit: (sequence: Message["sequence"] | undefined) => void;
}

export function Bubble({ message, timeMs, isFirst, isLast, showsSender, isEditing, onEdit }: Props) {
  const { session, people, attempt } = use();
  const isOwn = message.senderId === session.me;
  const isDeleted = message.deleteTime !== undefined;
  const name = people.name(message.senderId);
  const classes = ["line", isOwn && "is-own", isFirst && "is-first", isLast && "is-last", isDeleted && "is-deleted"];
  return (
    <li class={classes.filter(Boolean).join(" ")}>
      {!isOwn && showsSender && (isLast ? <Avatar name={name} seed={message.senderId} /> : <span class="avatar is-none" />)}
      <div class="bubble" tabIndex={isOwn && !isDeleted ? -1 : undefined}>
        {!isOwn && showsSender && isFirst && <p class="sender">{name}</p>}
        {isEditing && !isDeleted ? (
          <Edit message={message} onDone={() => onEdit(undefined)} />
        ) : (
          <p class="text">
            {isDeleted ? "Message deleted" : <Text text={message.text} />}
            <time class="meta">
              {message.editTime !== undefined && !isDeleted && "edited "}
              {timeOfDay(timeMs)}
            </time>
          </p>
        )}
      </div>
      {isOwn && !isDeleted && !isEditing && (
        <div class="actions">
          <button class="plain" aria-label="Edit message" title="Edit" onClick={() => onEdit(message.sequence)}>
            <Icon name="edit" />
          </button>
          <ConfirmButton words="Delete" label="Delete message" icon="delete" onSure={() => attempt(session.delete(message))} />
        </div>
      )}
    </li>
  );
}

/** A text, or a placeholder if there is nothing to see: without it, there would be nothing to click either. */
function Text({ text }: { text: string }) {
  return visible(text) === undefined ? <span class="none">{EMPTY}</span> : <>{text}</>;
}

/** A message that is not stored yet; looks like a stored one, but fainter. */
export function DraftBubble({ conversation, draft }: { conversation: Conversation; draft: Draft }) {
  const { session } = use();
  const state = session.connection.state === "live" ? "sending…" : "waiting…";
  return (
    <li class={draft.refused === undefined ? "line is-own is-draft is-first" : "line is-own is-refused is-first"}>
      <div class="bubble">
        <p class="text">
          <Text text={draft.text} />
          <span class="meta">{draft.refused === undefined ? state : "not sent"}</span>
        </p>
      </div>
      {draft.refused !== undefined && (
        <p class="refusal" role="alert">
          {draft.refused}{" "}
          <button class="link" onClick={() => session.retry(conversation, draft)}>
            Try again
          </button>{" "}
          <button class="link" onClick={() => session.discard(conversation, draft)}>
            Discard
          </button>
        </p>
      )}
    </li>
  );
}

function Edit({ message, onDone }: { message: Message; onDone: () => void }) {
  const { session, attempt } = use();
  const [text, setText] = useState(message.text);
  const box = useRef<HTMLTextAreaElement>(null);
  // Before the user can select or type: a caret that moves later would put the text in the wrong place.
  useLayoutEffect(() => {
    box.current?.focus();
    box.current?.setSelectionRange(message.text.length, message.text.length);
  }, []);
  const save = () => {
    if (text.trim() !== "" && text !== message.text) attempt(session.edit(message, text));
    onDone();
  };
  return (
    <form
      class="edit"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <textarea
        ref={box}
        aria-label="Text of the message"
        value={text}
        rows={Math.min(8, text.split("\n").length + Math.floor(text.length / 60))}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onDone();
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            save();
          }
        }}
      />
      <span>
        <button type="button" class="link" onClick={onDone}>
          Cancel
        </button>{" "}
        <button class="link">Save</button>
      </span>
    </form>
  );
}
