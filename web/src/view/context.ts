// The context that all components share.

import { createContext } from "preact";
import { useContext } from "preact/hooks";

import { failureOf } from "../failure";
import type { People } from "../people";
import type { Session } from "../session";

export interface Context {
  session: Session;
  people: People;
  /** Shows a text for a few seconds. */
  notify: (words: string) => void;
}

export const ContextProvider = createContext<Context | undefined>(undefined);

export function use(): Context & { attempt: (doing: Promise<unknown>) => void } {
  const context = useContext(ContextProvider);
  if (context === undefined) throw new Error("no session here");
  const attempt = (doing: Promise<unknown>) => {
    doing.catch((error: unknown) => context.notify(failureOf(error).words));
  };
  return { ...context, attempt };
}

/** Returns the link to a conversation. */
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
