// A conversation: its lines, oldest at the top, and the composer.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { ConversationKind } from "../../gen/parlance/message/v1/conversation_pb";
import type { Conversation, Line } from "../conversation";
import { Bubble, DraftBubble } from "./bubble";
import { Composer } from "./composer";
import { use } from "./context";
import { Avatar, ConversationAvatar, Icon, ConfirmButton } from "./parts";
import { ConnectionStatus } from "./sidebar";
import { day, isOneAdding, isSameDay, list, notice, subtitleOf, titleOf } from "./wording";

/** Messages of one sender within this time are grouped. */
const TOGETHER_MS = 5 * 60_000;
/** The distance to an end of the scroll area that counts as being there. */
const NEAR_PX = 80;
const OLDER_PX = 300;

export function Thread({ conversation }: { conversation: Conversation }) {
  const { session, people, attempt } = use();
  const [editing, setEditing] = useState<bigint>();
  // The read mark when the conversation was opened: later lines are marked as new.
  const [readBefore] = useState(() => (conversation.unread > 0 ? conversation.lastRead : Number.MAX_SAFE_INTEGER));
  const scroll = useScroll(conversation);

  const isLive = session.connection.state === "live";
  useEffect(() => {
    if (isLive) attempt(session.open(conversation));
  }, [isLive]);
  useEffect(() => {
    // Not on every render: a failure would otherwise trigger its own retry.
    if (isLive && scroll.isNearTop()) attempt(session.older(conversation));
  }, [isLive, conversation.from]);
  useEffect(() => () => conversation.trim(), []);
  useEffect(() => {
    const markSeen = () => {
      if (document.visibilityState === "visible" && scroll.isAtBottom.current) void session.seen(conversation);
    };
    markSeen();
    document.addEventListener("visibilitychange", markSeen);
    return () => document.removeEventListener("visibilitychange", markSeen);
  });

  const { lines, drafts } = conversation;
  const editLast = () => {
    const own = lines.findLast((line) => isOwn(line, session.me));
    if (own?.kind === "message") setEditing(own.message.sequence);
  };
  const lastLine = lines.at(-1);
  const isNewBelow = !scroll.isAtBottom.current && lastLine !== undefined && lastLine.sequence > scroll.seen.current;
  return (
    <main class="thread">
      <header>
        <a class="plain back" href="#" aria-label="Back to the list">
          <Icon name="back" />
        </a>
        <ConversationAvatar conversation={conversation} />
        <div class="titles">
          <h1>{titleOf(conversation, people)}</h1>
          <p>{subtitleOf(conversation)}</p>
          <ConnectionStatus />
        </div>
        {conversation.kind !== ConversationKind.DIRECT && (
          <ConfirmButton words="Leave" onSure={() => attempt(session.leave(conversation))} />
        )}
      </header>
      <div class="scroll" ref={scroll.box} onScroll={scroll.onScroll} tabIndex={0} role="log" aria-label="Messages">
        <ol class="lines">
          {conversation.isLoading && <li class="loading">Loading…</li>}
          {!conversation.hasOlder && <Beginning conversation={conversation} />}
          {lines.map((line, at) => {
            const before = lines[at - 1];
            const isNewDay = before === undefined || !isSameDay(before.timeMs, line.timeMs);
            const isFirstNew = line.sequence > readBefore && (before === undefined || before.sequence <= readBefore);
            return [
              isNewDay && <li key={`day-${line.sequence}`} class="divider"><span>{day(line.timeMs)}</span></li>,
              isFirstNew && <li key="new" class="divider is-new"><span>New</span></li>,
              line.kind === "notice" ? (
                <Notice key={line.sequence} lines={lines} at={at} />
              ) : (
                <Bubble
                  key={line.sequence}
                  message={line.message}
                  timeMs={line.timeMs}
                  isFirst={isNewDay || isFirstNew || !areTogether(before, line)}
                  isLast={!areTogether(line, lines[at + 1])}
                  showsSender={conversation.kind !== ConversationKind.DIRECT}
                  isEditing={editing === line.message.sequence}
                  onEdit={setEditing}
                />
              ),
            ];
          })}
          {drafts.map((draft) => <DraftBubble key={draft.requestId} conversation={conversation} draft={draft} />)}
          <Seen conversation={conversation} />
        </ol>
      </div>
      <footer>
        {isNewBelow && (
          <button class="jump" onClick={scroll.toBottom}>
            <Icon name="down" /> New messages
          </button>
        )}
        <Typing conversation={conversation} />
        <Composer conversation={conversation} onSent={scroll.toBottom} onEditLast={editLast} />
      </footer>
    </main>
  );
}

function isOwn(line: Line, me: string): boolean {
  return line.kind === "message" && line.message.senderId === me && line.message.deleteTime === undefined;
}

function areTogether(a: Line | undefined, b: Line | undefined): boolean {
  return a?.kind === "message" && b?.kind === "message" && a.message.senderId === b.message.senderId
    && b.timeMs - a.timeMs < TOGETHER_MS && isSameDay(a.timeMs, b.timeMs);
}

/** A change of the conversation itself. Members added by one user in a row share one line, at the first of them. */
function Notice({ lines, at }: { lines: readonly Line[]; at: number }) {
  const { session, people } = use();
  const eventAt = (index: number) => {
    const line = lines[index];
    return line?.kind === "notice" ? line.event : undefined;
  };
  const event = eventAt(at);
  const before = eventAt(at - 1);
  if (event === undefined || (before !== undefined && isOneAdding(before, event))) return null;
  const events = [event];
  for (let next; (next = eventAt(at + events.length)) !== undefined && isOneAdding(event, next); ) events.push(next);
  return <li class="notice">{notice(events, people, session.me)}</li>;
}

function Beginning({ conversation }: { conversation: Conversation }) {
  const { people } = use();
  return (
    <li class="beginning">
      <ConversationAvatar conversation={conversation} />
      <p>
        This is the beginning of <strong>{titleOf(conversation, people)}</strong>.
      </p>
    </li>
  );
}

/** The users who have read the last message, if it is the user's own. */
function Seen({ conversation }: { conversation: Conversation }) {
  const { session, people } = use();
  const { last } = conversation;
  if (last === undefined || last.senderId !== session.me || conversation.drafts.length > 0) return null;
  const readers = [...conversation.readers].filter(([, sequence]) => sequence >= Number(last.sequence));
  if (readers.length === 0) return null;
  const names = readers.map(([userId]) => people.name(userId)).sort();
  return <li class="seen">{conversation.kind === ConversationKind.DIRECT ? "Seen" : `Seen by ${list(names)}`}</li>;
}

function Typing({ conversation }: { conversation: Conversation }) {
  const { people } = use();
  const typists = conversation.typists(Date.now());
  const [first] = typists;
  const names = typists.map((userId) => people.name(userId));
  return (
    <p class="typing" aria-live="polite">
      {first !== undefined && (
        <>
          <Avatar name={people.name(first)} seed={first} />
          {list(names)} {names.length === 1 ? "is" : "are"} typing
          <span class="dots" aria-hidden="true"><i /><i /><i /></span>
        </>
      )}
    </p>
  );
}

/** Keeps the scroll position at the bottom while the user is there, and in place when older lines are added above. */
function useScroll(conversation: Conversation) {
  const box = useRef<HTMLDivElement>(null);
  const isAtBottom = useRef(true);
  /** The last line when the user was at the bottom. */
  const seen = useRef(0);
  const before = useRef({ height: 0, from: 0 });

  const measure = () => {
    const element = box.current;
    if (element === null) return;
    isAtBottom.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX;
  };
  const toBottom = () => {
    isAtBottom.current = true;
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  };
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    if (isAtBottom.current) {
      element.scrollTop = element.scrollHeight;
      seen.current = conversation.lines.at(-1)?.sequence ?? 0;
    } else if (conversation.from < before.current.from) {
      element.scrollTop += element.scrollHeight - before.current.height;
    }
    before.current = { height: element.scrollHeight, from: conversation.from };
  });
  useEffect(() => {
    // The area becomes smaller, for example when the on-screen keyboard opens.
    const observer = new ResizeObserver(() => {
      if (isAtBottom.current) toBottom();
    });
    if (box.current) observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const { session, attempt } = use();
  const isNearTop = () => box.current !== null && box.current.scrollTop < OLDER_PX;
  const [, draw] = useState(0);
  const onScroll = () => {
    const wasAtBottom = isAtBottom.current;
    measure();
    if (isNearTop()) attempt(session.older(conversation));
    if (wasAtBottom !== isAtBottom.current) draw((drawn) => drawn + 1);
  };
  return { box, isAtBottom, seen, toBottom, isNearTop, onScroll };
}