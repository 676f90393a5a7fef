package dev.parlance.example;

import dev.parlance.message.v1.Ack;
import dev.parlance.message.v1.CaughtUp;
import dev.parlance.message.v1.ChatRequest;
import dev.parlance.message.v1.ConversationKind;
import dev.parlance.message.v1.ConversationServiceGrpc;
import dev.parlance.message.v1.ConversationServiceGrpc.ConversationServiceBlockingStub;
import dev.parlance.message.v1.CreateConversationRequest;
import dev.parlance.message.v1.Event;
import dev.parlance.message.v1.ListConversationsRequest;
import dev.parlance.message.v1.ListEventsRequest;
import dev.parlance.message.v1.MarkReadRequest;
import dev.parlance.message.v1.MessageServiceGrpc;
import dev.parlance.message.v1.MessageServiceGrpc.MessageServiceBlockingStub;
import dev.parlance.message.v1.SendMessageRequest;
import dev.parlance.message.v1.SendTypingRequest;
import dev.parlance.user.v1.CreateUserRequest;
import dev.parlance.user.v1.GetUserRequest;
import dev.parlance.user.v1.UserServiceGrpc;
import dev.parlance.user.v1.UserServiceGrpc.UserServiceBlockingStub;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/**
 * A client of Parlance in Java: users and messages by unary calls, and a Chat session that survives restarts of the
 * services. See ../README.md.
 */
public final class Client {
  private final UserServiceBlockingStub users;
  private final ConversationServiceBlockingStub conversations;
  private final MessageServiceBlockingStub messages;
  private final ManagedChannel toMessages;
  private final String prefix;
  private final String ann;
  private final String ben;
  private final String eve;
  private final String room;

  /** The messages sent, in order. */
  private final List<String> texts = new ArrayList<>();

  private Client(ManagedChannel toUsers, ManagedChannel toMessages, String prefix) {
    users = UserServiceGrpc.newBlockingStub(toUsers);
    conversations = ConversationServiceGrpc.newBlockingStub(toMessages);
    messages = MessageServiceGrpc.newBlockingStub(toMessages);
    this.toMessages = toMessages;
    this.prefix = prefix;
    ann = prefix + "ann";
    ben = prefix + "ben";
    eve = prefix + "eve";
    room = prefix + "room";
  }

  public static void main(String[] arguments) throws Exception {
    Options options;
    try {
      options = Options.parse(arguments);
    } catch (IllegalArgumentException wrong) {
      System.err.println(wrong.getMessage() + "\n\n" + Options.USAGE);
      System.exit(2);
      return;
    }
    if (options.isHelp()) {
      System.out.println(Options.USAGE);
      return;
    }
    // Limits the time of the whole program.
    var watch =
        Executors.newSingleThreadScheduledExecutor(
            task -> {
              var thread = new Thread(task);
              thread.setDaemon(true);
              return thread;
            });
    watch.schedule(() -> Runtime.getRuntime().halt(1), 5, TimeUnit.MINUTES);

    ManagedChannel toUsers = connect(options.userService());
    ManagedChannel toMessages = connect(options.messageService());
    try {
      new Client(toUsers, toMessages, options.prefix()).run(options.restarts());
    } finally {
      for (ManagedChannel channel : List.of(toUsers, toMessages)) {
        channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
      }
    }
  }

  private static ManagedChannel connect(String address) {
    // Not encrypted: for services on the same machine.
    return Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
  }

  private void run(int restarts) throws Exception {
    begin();
    callUnary();
    try (var session = new Session(toMessages, ben)) {
      chat(session);
      for (int round = 1; round <= restarts; round++) {
        throughRestart(session, round);
      }
    }
    checkLog();
  }

  /** Creates two users and their conversation. With request ids it is idempotent. */
  private void begin() {
    for (String id : List.of(ann, ben)) {
      users.createUser(CreateUserRequest.newBuilder().setUserId(id).setUsername(id).setRequestId(id).build());
    }
    var user = users.getUser(GetUserRequest.newBuilder().setUserId(ann).build());
    say("%s is called %s", shorten(user.getUserId()), shorten(user.getUsername()));
    conversations.createConversation(
        CreateConversationRequest.newBuilder()
            .setConversationId(room)
            .setKind(ConversationKind.CONVERSATION_KIND_GROUP)
            .setCreatorId(ann)
            .addMemberIds(ben)
            .setRequestId(room)
            .build());
  }

  /** Sends by unary calls: refused, accepted and repeated. */
  private void callUnary() {
    try {
      messages.sendMessage(message("Let me in!").setSenderId(eve).build());
    } catch (StatusRuntimeException error) {
      say("eve is refused: %s", Failures.reason(error));
    }

    var hello = message("Hello!").setSenderId(ann).build();
    var stored = messages.sendMessage(hello);
    expect(!stored.getDuplicate(), "this was run before: give another --prefix");
    say("ann sent %d", stored.getMessage().getSequence());
    var again = messages.sendMessage(hello);
    expect(again.getDuplicate(), "the same message was stored again");
    say("ann sent %d again: a duplicate", again.getMessage().getSequence());
    texts.add(hello.getText());
  }

  /** Reads the log from its beginning and does everything else over the same stream. */
  private void chat(Session session) throws Exception {
    show(session, 3);
    CaughtUp mark;
    do {
      mark = session.next().getCaughtUp();
    } while (!mark.getConversationId().equals(room));
    say("ben is caught up at %d", mark.getSequence());

    var typing = SendTypingRequest.newBuilder().setConversationId(room);
    session.call(ChatRequest.newBuilder().setTyping(typing)).get();
    say("ben is typing");

    // Sent without waiting for each other's answers, and stored in this order.
    var answers = new ArrayList<CompletableFuture<Ack>>();
    for (String text : List.of("one", "two", "three")) {
      answers.add(send(session, text));
    }
    for (var answer : answers) {
      say("ben sent %d", answer.get().getSequence());
    }
    show(session, 3);

    var read = MarkReadRequest.newBuilder().setConversationId(room).setSequence(6);
    Ack marked = session.call(ChatRequest.newBuilder().setMarkRead(read)).get();
    say("ben has read up to %d", marked.getSequence());
    var inbox = conversations.listConversations(ListConversationsRequest.newBuilder().setActorId(ann).build());
    say("ann has %d unread", inbox.getItems(0).getMembership().getUnreadCount());
  }

  /** Sends several messages at a time and reads them back, until the session was opened once more. */
  private void throughRestart(Session session, int round) throws Exception {
    say("restart the services: ben keeps sending");
    int before = session.connections();
    int count = 0;
    int repeated = 0;
    while (session.connections() == before) {
      var answers = new LinkedHashMap<String, CompletableFuture<Ack>>();
      for (int sent = 0; sent < 3; sent++) {
        String text = ++count + " of round " + round;
        answers.put(text, send(session, text));
      }
      for (var answer : answers.entrySet()) {
        Ack ack = answer.getValue().get();
        Event event = nextEntry(session);
        expect(
            event.getSequence() == ack.getSequence() && event.getMessageSent().getText().equals(answer.getKey()),
            answer.getKey() + " was stored as " + ack.getSequence() + ", and then came " + event);
        if (ack.getDuplicate()) {
          repeated++;
        }
      }
      Thread.sleep(5);
    }
    System.err.printf(
        "round %d: %d messages, of which %d had been stored by a try without an answer%n", round, count, repeated);
    say("restarted: all of it is stored once and came once, in order");
  }

  /** Compares the stored log with the messages sent. */
  private void checkLog() {
    var stored = new ArrayList<String>();
    long after = 0;
    long last;
    do {
      var page =
          messages.listEvents(
              ListEventsRequest.newBuilder()
                  .setConversationId(room)
                  .setActorId(ann)
                  .setAfterSequence(after)
                  .setPageSize(1_000)
                  .build());
      for (Event event : page.getEventsList()) {
        after++;
        expect(event.getSequence() == after, "entry " + after + " is missing");
        if (event.hasMessageSent()) {
          stored.add(event.getMessageSent().getText());
        }
      }
      last = page.getLastSequence();
    } while (after < last);
    expect(
        stored.equals(texts), texts.size() + " messages were sent, and the log has " + stored.size() + ", or others");
    say("the log has it all, without a hole");
  }

  private CompletableFuture<Ack> send(Session session, String text) {
    texts.add(text);
    return session.call(ChatRequest.newBuilder().setSend(message(text)));
  }

  /** Uses one request id for all attempts; an application should generate a UUID with the message. */
  private SendMessageRequest.Builder message(String text) {
    return SendMessageRequest.newBuilder()
        .setConversationId(room)
        .setText(text)
        .setRequestId(text.replace(' ', '-'));
  }

  private void show(Session session, int count) throws InterruptedException {
    for (int shown = 0; shown < count; shown++) {
      Event event = nextEntry(session);
      say("ben has %d: %s", event.getSequence(), describe(event));
    }
  }

  /** Skips ephemerals, which may be lost, and marks. */
  private static Event nextEntry(Session session) throws InterruptedException {
    while (true) {
      Event event = session.next().getEvent();
      if (event.getSequence() > 0) {
        return event;
      }
    }
  }

  /** Formats an entry for a person. */
  private String describe(Event event) {
    return switch (event.getKindCase()) {
      case MESSAGE_SENT -> shorten(event.getMessageSent().getSenderId()) + ": " + event.getMessageSent().getText();
      case MEMBER_JOINED -> shorten(event.getMemberJoined().getUserId()) + " joined";
      case MEMBER_LEFT -> shorten(event.getMemberLeft().getUserId()) + " left";
      default -> "an event that this program does not print";
    };
  }

  /** Returns an id without the prefix. */
  private String shorten(String id) {
    return id.startsWith(prefix) ? id.substring(prefix.length()) : id;
  }

  private static void say(String format, Object... values) {
    System.out.printf(format + "%n", values);
  }

  private static void expect(boolean holds, String otherwise) {
    if (!holds) {
      throw new IllegalStateException(otherwise);
    }
  }
}
