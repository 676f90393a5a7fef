// The sign-in form: for an existing user, or a new one.

import { useEffect, useState } from "preact/hooks";

import type { User } from "../../gen/parlance/user/v1/user_pb";
import { failureOf } from "../failure";
import { nameOf, type People } from "../people";
import { Avatar, Logo } from "./parts";

const NAME = "[A-Za-z0-9._\\-]{1,64}";

export function SignIn({ people, onDone }: { people: People; onDone: (userId: string) => void }) {
  const [name, setName] = useState("");
  const [users, setUsers] = useState<User[]>();
  // The problem with the list and the problem with the name are independent.
  const [outage, setOutage] = useState("");
  const [problem, setProblem] = useState("");
  const [isBusy, setIsBusy] = useState(false);

  useEffect(() => {
    const abort = new AbortController();
    const search = () => {
      const prefix = new RegExp(`^${NAME}$`).test(name) ? name : "";
      people.search(prefix, abort.signal).then(
        (found) => {
          setUsers(found);
          setOutage("");
        },
        (error: unknown) => {
          if (abort.signal.aborted) return;
          setOutage(failureOf(error).words);
          timer = setTimeout(search, 2_000);
        },
      );
    };
    let timer = setTimeout(search, users === undefined ? 0 : 150);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [name]);

  const enter = (event: SubmitEvent) => {
    event.preventDefault();
    setIsBusy(true);
    people.enter(name).then(
      (user) => onDone(user.userId),
      (error: unknown) => {
        setProblem(failureOf(error).words);
        setIsBusy(false);
      },
    );
  };

  const isThere = users?.some((user) => user.username.toLowerCase() === name.toLowerCase());
  return (
    <main class="sign-in">
      <section class="card">
        <header>
          <Logo />
          <h1>Parlance</h1>
        </header>
        <p class="muted">Choose a name to chat with. Open this page in a second window to sign in as another user there.</p>
        <form onSubmit={enter}>
          <label for="name">Your name</label>
          <div class="row">
            <input
              id="name"
              value={name}
              onInput={(event) => {
                setName(event.currentTarget.value.trim());
                setProblem("");
              }}
              pattern={NAME}
              title="1 to 64 of A-Z a-z 0-9 . _ -"
              placeholder="ada"
              autocomplete="username"
              autocapitalize="none"
              spellcheck={false}
              maxLength={64}
              required
              autofocus
            />
            <button class="primary" disabled={isBusy || name === ""}>
              {name === "" || isThere ? "Sign in" : "Create"}
            </button>
          </div>
        </form>
        <p class="problem" role="alert">
          {problem || outage}
        </p>
        {users !== undefined && users.length > 0 && (
          <>
            <h2>{name === "" ? "Existing users" : "Existing users with this prefix"}</h2>
            <ul class="people">
              {users.map((user) => (
                <li key={user.userId}>
                  <button onClick={() => onDone(user.userId)}>
                    <Avatar name={nameOf(user)} seed={user.userId} />
                    <span class="name">{nameOf(user)}</span>
                  </button>
                </li>
              ))}
            </ul>
          </>
        )}
        <p class="fine">No password: the services on this machine trust every client that can reach them.</p>
      </section>
    </main>
  );
}
