// What every part of the page has at hand.

import { createContext } from "preact";
import { useContext } from "preact/hooks";

import { failureOf } from "../failure";
import type { People } from "../people";
import type { Session } from "../session";

export interface Context {
  session: Session;
  people: People;
  /** Tells the person something, for a while. */
  tell: (words: string) => void;
}

export const ContextProvider = createContext<Context | undefined>(undefined);

export function use(): Context & { attempt: (doing: Promise<unknown>) => void } {
  const context = useContext(ContextProvider);
  if (context === undefined) throw new Error("no session here");
  const attempt = (doing: Promise<unknown>) => {
    doing.catch((error: unknown) => context.tell(failureOf(error).words));
  };
  return { ...context, attempt };
}

/** Where a conversation is in the page. */
export function hrefOf(conversationId: string): string {
  return `#/${encodeURIComponent(conversationId)}`;
}

export function conversationOfHash(): string | undefined {
  const found = /^#\/(.+)$/.exec(location.hash)?.[1];
  try {
    return found === undefined ? undefined : decodeURIComponent(found);
  } catch {
    return undefined;
  }
}
