// The field for writing a message.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Conversation } from "../conversation";
import { use } from "./context";
import { Icon } from "./parts";
import { titleOf } from "./wording";

/** The service's size limit, in bytes of UTF-8. */
const MAX_BYTES = 16_384;
const MAX_HEIGHT_PX = 200;

/** Unsent text by conversation, restored when the conversation is opened again. */
const unsent = new Map<string, string>();

interface Props {
  conversation: Conversation;
  onSent: () => void;
  /** Called on arrow up in an empty field. */
  onEditLast: () => void;
}

export function Composer({ conversation, onSent, onEditLast }: Props) {
  const { session, people } = use();
  const key = `${session.me} ${conversation.id}`;
  const [text, setText] = useState(unsent.get(key) ?? "");
  const box = useRef<HTMLTextAreaElement>(null);
  const excess = new TextEncoder().encode(text).length - MAX_BYTES;
  const isSendable = text.trim() !== "" && excess <= 0;

  useEffect(() => {
    // On a phone this would open the keyboard.
    if (matchMedia("(pointer: fine)").matches) box.current?.focus();
  }, []);
  useLayoutEffect(() => {
    unsent.set(key, text);
    const element = box.current;
    if (element === null) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight, MAX_HEIGHT_PX)}px`;
  }, [text]);

  const send = () => {
    if (!isSendable) return;
    session.send(conversation, text.trim());
    setText("");
    onSent();
    box.current?.focus();
  };
  const name = titleOf(conversation, people);
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={box}
        rows={1}
        aria-label={`Message to ${name}`}
        placeholder={`Message ${name}`}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          if (event.currentTarget.value.trim() !== "") session.typing(conversation);
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            send();
          }
          if (event.key === "ArrowUp" && text === "") {
            event.preventDefault();
            onEditLast();
          }
        }}
      />
      {excess > 0 && <span class="problem">{excess} bytes too long</span>}
      <button class="primary send" aria-label="Send" disabled={!isSendable}>
        <Icon name="send" />
      </button>
    </form>
  );
}
