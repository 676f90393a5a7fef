// The entry point: reads the addresses of the services, then renders the web client.

import { render } from "preact";

import { connect, type Addresses } from "./services";
import { Root } from "./view/root";

async function begin(): Promise<void> {
  const answer = await fetch("/config.json", { cache: "no-store" });
  const { user_service, message_service } = (await answer.json()) as { user_service: string; message_service: string };
  const addresses: Addresses = { userService: user_service, messageService: message_service };
  render(<Root services={connect(addresses)} address={addresses.messageService} />, document.body);
}

begin().catch(() => {
  render(<p class="broken">Cannot load the web client: parlance does not answer. Is it running?</p>, document.body);
});
