// The whole page: the way in, then the list of conversations beside the one that is open.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { Services } from "../services";
import { People } from "../people";
import { Session } from "../session";
import { ContextProvider, conversationOfHash, hrefOf } from "./context";
import { Icon } from "./parts";
import { Sidebar } from "./sidebar";
import { SignIn } from "./sign_in";
import { Start } from "./start";
import { Thread } from "./thread";
import { titleOf } from "./wording";

/** Each tab has its own: several people can be tried in one browser. */
const REMEMBERED = "parlance.user";
const TOLD_MS = 8_000;

export function Root({ services }: { services: Services }) {
  const changed = useChanges();
  const people = useMemo(() => new People(services.users, changed), [services]);
  const [me, setMe] = useState(() => sessionStorage.getItem(REMEMBERED) ?? undefined);

  const signIn = (userId: string | undefined) => {
    if (userId === undefined) {
      sessionStorage.removeItem(REMEMBERED);
      location.hash = "";
    } else {
      sessionStorage.setItem(REMEMBERED, userId);
    }
    setMe(userId);
  };
  if (me === undefined) return <SignIn people={people} onDone={signIn} />;
  return <Chat key={me} me={me} services={services} people={people} changed={changed} onLeave={() => signIn(undefined)} />;
}

interface ChatProps {
  me: string;
  services: Services;
  people: People;
  changed: () => void;
  onLeave: () => void;
}

function Chat({ me, services, people, changed, onLeave }: ChatProps) {
  const [told, setTold] = useState("");
  const [isStarting, setIsStarting] = useState(false);
  const openId = useOpenConversation();
  const telling = useRef<ReturnType<typeof setTimeout>>(undefined);

  const tell = (words: string) => {
    clearTimeout(telling.current);
    setTold(words);
    telling.current = setTimeout(() => setTold(""), TOLD_MS);
  };
  const session = useMemo(() => {
    return new Session(services, me, {
      changed,
      left: (conversation) => tell(`You are no longer in ${titleOf(conversation, people)}.`),
    });
  }, []);
  useEffect(() => {
    void session.run();
    const wake = () => session.wake();
    addEventListener("online", wake);
    document.addEventListener("visibilitychange", wake);
    return () => {
      removeEventListener("online", wake);
      document.removeEventListener("visibilitychange", wake);
      clearTimeout(telling.current);
      session.close();
    };
  }, []);

  const { conversations, link } = session;
  const unread = conversations.reduce((sum, conversation) => sum + conversation.unread, 0);
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) Parlance` : "Parlance";
  }, [unread]);

  if (link.is === "ended") return <Ended words={link.words} onLeave={onLeave} />;
  const open = openId === undefined ? undefined : session.get(openId);
  const context = { session, people, tell };
  return (
    <ContextProvider.Provider value={context}>
      <div class={openId === undefined ? "chat" : "chat is-open"}>
        <Sidebar openId={openId} onStart={() => setIsStarting(true)} onLeave={onLeave} />
        {open ? (
          <Thread key={open.id} conversation={open} />
        ) : (
          <main class="nothing">
            {openId !== undefined && link.is === "live" ? (
              <>
                <p>There is no such conversation, or you are not a member of it.</p>
                <a class="button" href="#">
                  Back to the list
                </a>
              </>
            ) : (
              <>
                <p>{conversations.length > 0 ? "Pick a conversation, or start one." : "No conversation yet."}</p>
                <button class="primary" onClick={() => setIsStarting(true)}>
                  Start a conversation
                </button>
              </>
            )}
          </main>
        )}
      </div>
      {isStarting && (
        <Start
          onDone={(id) => {
            setIsStarting(false);
            if (id !== undefined) location.hash = hrefOf(id);
          }}
        />
      )}
      <div class="told" role="alert">
        {told !== "" && (
          <p>
            {told}
            <button class="plain" aria-label="Dismiss" onClick={() => setTold("")}>
              <Icon name="close" />
            </button>
          </p>
        )}
      </div>
    </ContextProvider.Provider>
  );
}

function Ended({ words, onLeave }: { words: string; onLeave: () => void }) {
  return (
    <main class="nothing">
      <p role="alert">{words}</p>
      <button class="primary" onClick={onLeave}>
        Sign in as somebody else
      </button>
    </main>
  );
}

/** Draws the page anew, once for all that changed at the same time. */
function useChanges(): () => void {
  const [, draw] = useState(0);
  const isDue = useRef(false);
  return useMemo(
    () => () => {
      if (isDue.current) return;
      isDue.current = true;
      setTimeout(() => {
        isDue.current = false;
        draw((drawn) => drawn + 1);
      });
    },
    [],
  );
}

function useOpenConversation(): string | undefined {
  const [id, setId] = useState(conversationOfHash);
  useEffect(() => {
    const follow = () => setId(conversationOfHash());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return id;
}
