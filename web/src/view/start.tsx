// The dialog that starts a conversation: a direct one, a group, or a channel that any user can join.

import type { ComponentChild } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import type { User } from "../../gen/parlance/user/v1/user_pb";
import { failureOf } from "../failure";
import { nameOf } from "../people";
import { use } from "./context";
import { Avatar, Icon } from "./parts";

const KINDS = { direct: "Direct", group: "Group", channel: "Channel" } as const;
type Kind = keyof typeof KINDS;

/** Calls `onDone` with the conversation, or with nothing if it was closed. */
export function Start({ onDone }: { onDone: (conversationId: string | undefined) => void }) {
  const { session } = use();
  const dialog = useRef<HTMLDialogElement>(null);
  const [kind, setKind] = useState<Kind>("direct");
  const [problem, setProblem] = useState("");
  useEffect(() => dialog.current?.showModal(), []);

  const go = (making: Promise<string>) => {
    setProblem("");
    making.then(onDone, (error: unknown) => setProblem(failureOf(error).words));
  };
  return (
    <dialog ref={dialog} class="start card" aria-labelledby="start" onClose={() => onDone(undefined)}>
      <header>
        <h2 id="start">Start a conversation</h2>
        <button class="plain" aria-label="Close" onClick={() => dialog.current?.close()}>
          <Icon name="close" />
        </button>
      </header>
      <div class="kinds" role="radiogroup" aria-label="Kind">
        {(Object.keys(KINDS) as Kind[]).map((each) => (
          <label key={each}>
            <input type="radio" name="kind" checked={kind === each} onChange={() => setKind(each)} />
            <span>{KINDS[each]}</span>
          </label>
        ))}
      </div>
      {kind === "direct" && <Direct onPick={(userId) => go(session.direct(userId))} />}
      {kind === "group" && <Group onMake={(title, userIds) => go(session.group(title, userIds))} />}
      {kind === "channel" && <Channel onMake={(id, title) => go(session.channel(id, title))} />}
      <p class="problem" role="alert">
        {problem}
      </p>
    </dialog>
  );
}

function Direct({ onPick }: { onPick: (userId: string) => void }) {
  return (
    <Picker
      each={(user) => (
        <button type="button" onClick={() => onPick(user.userId)}>
          <Avatar name={nameOf(user)} seed={user.userId} />
          <span class="name">{nameOf(user)}</span>
        </button>
      )}
    />
  );
}

function Group({ onMake }: { onMake: (title: string, userIds: string[]) => void }) {
  const [title, setTitle] = useState("");
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const toggle = (userId: string) => {
    const next = new Set(picked);
    if (!next.delete(userId)) next.add(userId);
    setPicked(next);
  };
  const make = (event: SubmitEvent) => {
    event.preventDefault();
    onMake(title.trim(), [...picked]);
  };
  return (
    <form onSubmit={make}>
      <label for="title">Title</label>
      <input
        id="title"
        value={title}
        onInput={(event) => setTitle(event.currentTarget.value)}
        placeholder="Lunch on Friday"
        pattern=".*\S.*"
        maxLength={128}
        required
      />
      <Picker
        each={(user) => (
          <label class="pick">
            <Avatar name={nameOf(user)} seed={user.userId} />
            <span class="name">{nameOf(user)}</span>
            <input type="checkbox" checked={picked.has(user.userId)} onChange={() => toggle(user.userId)} />
          </label>
        )}
      />
      <button class="primary">{picked.size > 0 ? `Start with ${picked.size}` : "Start"}</button>
    </form>
  );
}

function Channel({ onMake }: { onMake: (id: string, title: string) => void }) {
  const [title, setTitle] = useState("");
  // Others join the channel by its name, so the id is derived from it.
  const id = title.trim().toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 64);
  const make = (event: SubmitEvent) => {
    event.preventDefault();
    onMake(id, title.trim());
  };
  return (
    <form onSubmit={make}>
      <label for="title">Name</label>
      <input
        id="title"
        value={title}
        onInput={(event) => setTitle(event.currentTarget.value)}
        placeholder="General"
        maxLength={64}
        required
      />
      <p class="fine">
        {id === "" ? "Any user can join a channel by its name. It is created if it does not exist." : `Joins #${id}, or creates it.`}
      </p>
      <button class="primary" disabled={id === ""}>
        Open channel
      </button>
    </form>
  );
}

/** A picker of other users, searched by prefix. */
function Picker({ each }: { each: (user: User) => ComponentChild }) {
  const { session, people, notify } = use();
  const [prefix, setPrefix] = useState("");
  const [users, setUsers] = useState<User[]>();
  useEffect(() => {
    const abort = new AbortController();
    people.search(prefix, abort.signal).then(
      (found) => setUsers(found.filter((user) => user.userId !== session.me)),
      (error: unknown) => {
        if (!abort.signal.aborted) notify(failureOf(error).words);
      },
    );
    return () => abort.abort();
  }, [prefix]);
  return (
    <>
      <label for="prefix">People</label>
      <input
        id="prefix"
        value={prefix}
        onInput={(event) => setPrefix(event.currentTarget.value.replace(/[^A-Za-z0-9._-]/g, "").slice(0, 64))}
        placeholder="Find by name"
        autocomplete="off"
        spellcheck={false}
      />
      <ul class="people">
        {users?.map((user) => <li key={user.userId}>{each(user)}</li>)}
        {users?.length === 0 && (
          <li class="fine">{prefix === "" ? "No other users yet." : "No name has this prefix."}</li>
        )}
      </ul>
    </>
  );
}
