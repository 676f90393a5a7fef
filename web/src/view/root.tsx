// The root component: the sign-in form, then the list of conversations beside the open one.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { Services } from "../services";
import { People } from "../people";
import { Session } from "../session";
import { tabsOf } from "../tabs";
import { ContextProvider, conversationOfHash, hrefOf } from "./context";
import { Icon } from "./parts";
import { Sidebar } from "./sidebar";
import { SignIn } from "./sign_in";
import { Start } from "./start";
import { Thread } from "./thread";
import { titleOf } from "./wording";

/** Each tab has its own user, so that several users can be tried in one browser. */
const USER_KEY = "parlance.user";
const TOAST_MS = 8_000;

/** `address` is that of message-service. */
export function Root({ services, address }: { services: Services; address: string }) {
  const changed = useChanges();
  const people = useMemo(() => new People(services.users, changed), [services]);
  const [me, setMe] = useState(() => sessionStorage.getItem(USER_KEY) ?? undefined);

  const signIn = (userId: string | undefined) => {
    if (userId === undefined) {
      sessionStorage.removeItem(USER_KEY);
      location.hash = "";
    } else {
      sessionStorage.setItem(USER_KEY, userId);
    }
    setMe(userId);
  };
  if (me === undefined) return <SignIn people={people} onDone={signIn} />;
  const shared = { services, address, people, changed };
  return <Chat key={me} me={me} {...shared} onLeave={() => signIn(undefined)} />;
}

interface ChatProps {
  me: string;
  services: Services;
  address: string;
  people: People;
  changed: () => void;
  onLeave: () => void;
}

function Chat({ me, services, address, people, changed, onLeave }: ChatProps) {
  const [toast, setToast] = useState("");
  const [isStarting, setIsStarting] = useState(false);
  const openId = useOpenConversation();
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);

  const notify = (words: string) => {
    clearTimeout(timer.current);
    setToast(words);
    timer.current = setTimeout(() => setToast(""), TOAST_MS);
  };
  const session = useMemo(() => {
    return new Session(services, me, {
      changed,
      tabs: tabsOf(address, me),
      left: (conversation) => notify(`You are no longer in ${titleOf(conversation, people)}.`),
    });
  }, []);
  useEffect(() => {
    void session.run();
    const wake = () => session.wake();
    const resume = ({ persisted }: PageTransitionEvent) => persisted && session.resume();
    addEventListener("online", wake);
    addEventListener("pageshow", resume);
    document.addEventListener("visibilitychange", wake);
    return () => {
      removeEventListener("online", wake);
      removeEventListener("pageshow", resume);
      document.removeEventListener("visibilitychange", wake);
      clearTimeout(timer.current);
      session.close();
    };
  }, []);

  const { conversations, connection } = session;
  const unread = conversations.reduce((sum, conversation) => sum + conversation.unread, 0);
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) Parlance` : "Parlance";
  }, [unread]);

  if (connection.state === "ended") return <Ended words={connection.words} onLeave={onLeave} />;
  const open = openId === undefined ? undefined : session.get(openId);
  const context = { session, people, notify };
  return (
    <ContextProvider.Provider value={context}>
      <div class={openId === undefined ? "chat" : "chat is-open"}>
        <Sidebar openId={openId} onStart={() => setIsStarting(true)} onLeave={onLeave} />
        {open ? (
          <Thread key={open.id} conversation={open} />
        ) : (
          <main class="nothing">
            {openId !== undefined && connection.state === "live" ? (
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
      <div class="toast" role="alert">
        {toast !== "" && (
          <p>
            {toast}
            <button class="plain" aria-label="Dismiss" onClick={() => setToast("")}>
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
        Sign in as another user
      </button>
    </main>
  );
}

/** Returns a function that re-renders the page, once for all changes at the same time. */
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
