// The harness of the web client's tests: the real `parlance serve`, a real browser, and a separate client.
//
// Environment variables: PARLANCE (the binary), CHROMIUM, TEST_DATABASE_URL.

import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";

import { type Browser, type BrowserContext, chromium, type Locator, type Page } from "playwright-core";

import { connect, requestId, type Services } from "../src/services";

/** Longer than anything here takes on a busy machine. */
export const PATIENCE_MS = 30_000;

/** Polls until nothing is thrown, and returns the result. */
export async function eventually<T>(ask: () => Promise<T> | T): Promise<T> {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (Date.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** `parlance serve`, which can be stopped and restarted on the same ports. */
export class Parlance {
  #process: ChildProcess | undefined;

  private constructor(
    readonly page: string,
    private readonly userPort: number,
    private readonly messagePort: number,
    private readonly webPort: number,
  ) {}

  static async start(): Promise<Parlance> {
    const [user, message, web] = await freePorts(3);
    const parlance = new Parlance(`http://127.0.0.1:${web}`, user ?? 0, message ?? 0, web ?? 0);
    await parlance.again();
    return parlance;
  }

  /** A client beside the page. */
  get services(): Services {
    const at = (port: number) => `http://127.0.0.1:${port}`;
    return connect({ userService: at(this.userPort), messageService: at(this.messagePort) });
  }

  get origins(): string[] {
    return [this.webPort, this.userPort, this.messagePort].map((port) => `http://127.0.0.1:${port}`);
  }

  async again(): Promise<void> {
    const at = (port: number) => `127.0.0.1:${port}`;
    const ports = ["--user-listen", at(this.userPort), "--message-listen", at(this.messagePort)];
    const flags = ["serve", "--database-url", needed("TEST_DATABASE_URL"), ...ports, "--web-listen", at(this.webPort)];
    const child = spawn(needed("PARLANCE"), flags, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    let output = "";
    child.stdout.on("data", (text: Buffer) => (output += text.toString()));
    child.stderr.on("data", (text: Buffer) => (output += text.toString()));
    await eventually(() => {
      if (!output.includes("Press Ctrl-C to stop.")) throw new Error(`parlance does not serve: ${output}`);
    });
  }

  async stop(): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    child.kill("SIGTERM");
    await eventually(() => {
      if (child.exitCode === null && child.signalCode === null) throw new Error("parlance does not end");
    });
    this.#process = undefined;
    if (child.exitCode !== 0) throw new Error(`parlance ended with ${child.exitCode}, ${child.signalCode}`);
  }

  kill(): void {
    this.#process?.kill("SIGKILL");
  }
}

/** A fresh browser profile without background requests. */
export async function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: needed("CHROMIUM"),
    args: [
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-gpu",
      "--disable-quic",
      "--disable-sync",
      "--no-first-run",
      // Chromium's sandbox does not work for root, as which CI runs; the browser opens only the web client.
      "--no-sandbox",
    ],
  });
}

/** One person at one window. */
export class Person {
  /** The errors that the browser reported. */
  readonly complaints: string[] = [];
  readonly requested = new Set<string>();
  /** The number of streams that the page has opened. */
  streams = 0;

  private constructor(
    readonly name: string,
    readonly page: Page,
  ) {}

  /** Opens a new window at the sign-in page. */
  static async arrive(browser: Browser, parlance: Parlance, name: string, options: Options = {}): Promise<Person> {
    const context = await browser.newContext({ viewport: { width: 1180, height: 760 }, locale: "en-GB", ...options });
    return Person.arriveIn(context, parlance, name);
  }

  /** Opens another tab of a browser at the sign-in page. */
  static async arriveIn(context: BrowserContext, parlance: Parlance, name: string): Promise<Person> {
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const person = new Person(name, page);
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) person.complaints.push(message.text());
    });
    page.on("pageerror", (error) => person.complaints.push(String(error)));
    page.on("request", (request) => {
      if (/^(https?|wss?):/.test(request.url())) person.requested.add(new URL(request.url()).origin);
      if (request.method() === "POST" && request.url().endsWith("/Subscribe")) person.streams += 1;
    });
    await page.goto(parlance.page);
    return person;
  }

  /** Signs in with the name, which creates a missing user. */
  async signIn(): Promise<void> {
    await this.page.getByLabel("Your name").fill(this.name);
    await this.page.getByLabel("Your name").press("Enter");
    await this.isConnected();
  }

  async isConnected(): Promise<void> {
    await this.page.locator(".sidebar .status:empty").waitFor({ state: "attached" });
  }

  async start(kind: "Direct" | "Group" | "Channel"): Promise<Locator> {
    await this.page.getByRole("button", { name: "Start a conversation" }).first().click();
    const dialog = this.page.getByRole("dialog");
    await dialog.getByText(kind, { exact: true }).click();
    return dialog;
  }

  async channel(title: string): Promise<void> {
    const dialog = await this.start("Channel");
    await dialog.getByLabel("Name").fill(title);
    await dialog.getByRole("button", { name: "Open channel" }).click();
    await this.page.getByRole("heading", { name: title }).waitFor();
  }

  row(title: string): Locator {
    return this.page.getByRole("navigation").getByRole("link").filter({ hasText: title });
  }

  async open(title: string): Promise<void> {
    await this.row(title).click();
    await this.page.getByRole("heading", { name: title }).waitFor();
  }

  get box(): Locator {
    return this.page.getByRole("textbox", { name: /^Message to/ });
  }

  async says(text: string): Promise<void> {
    await this.box.fill(text);
    await this.box.press("Enter");
  }

  /** Waits for a message, acknowledged if it is one's own. */
  async sees(text: string): Promise<void> {
    await this.page.locator(".line:not(.is-draft) .text", { hasText: text }).first().waitFor();
  }

  /** All messages shown, in order, without their times. */
  async texts(): Promise<string[]> {
    return this.page.locator(".line .text").evaluateAll((all) => all.map((text) => text.firstChild?.textContent ?? ""));
  }

  line(text: string): Locator {
    return this.page.locator(".line", { hasText: text });
  }
}

type Options = Parameters<Browser["newContext"]>[0];

export async function send(services: Services, conversationId: string, senderId: string, texts: string[]): Promise<void> {
  for (const text of texts) {
    await services.messages.sendMessage({ conversationId, senderId, text, requestId: requestId() });
  }
}

function needed(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`${name} is not set: run make web-check`);
  return value;
}

/** Finds free ports; all are held until the last is found, so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
