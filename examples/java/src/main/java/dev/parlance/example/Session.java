package dev.parlance.example;

import dev.parlance.message.v1.Ack;
import dev.parlance.message.v1.ChatCursors;
import dev.parlance.message.v1.ChatOpen;
import dev.parlance.message.v1.ChatRequest;
import dev.parlance.message.v1.ChatResponse;
import dev.parlance.message.v1.Cursor;
import dev.parlance.message.v1.MessageServiceGrpc;
import dev.parlance.message.v1.SubscribeStart;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * One user's Chat, which survives lost connections and restarts of the server: entries arrive in order, without gaps and
 * duplicates, and frames are executed once, in their order.
 */
final class Session implements AutoCloseable {
  /** The server sends a heartbeat after 30 s of silence at most. */
  private static final Duration SILENCE = Duration.ofSeconds(45);

  /** The server refuses more than 256 unanswered frames. */
  private static final int MAX_UNANSWERED = 128;

  /** The most cursors of one frame. */
  private static final int MAX_CURSORS = 10_000;

  /** The most items that wait for the application. Beyond that nothing is read, answers to frames included. */
  private static final int MAX_KEPT = 1_024;

  /** Marks the end of the items. */
  private static final ChatResponse END = ChatResponse.getDefaultInstance();

  private record Call(ChatRequest.Builder frame, CompletableFuture<Ack> answer) {}

  private final ManagedChannel channel;
  private final String actorId;
  private final BlockingQueue<ChatResponse> items = new LinkedBlockingQueue<>();
  private final CompletableFuture<StatusRuntimeException> ended = new CompletableFuture<>();
  private volatile int connections;

  /** The fields below are used by this thread only, on which gRPC calls back, too. */
  private final ScheduledThreadPoolExecutor thread = new ScheduledThreadPoolExecutor(1);

  /** The last sequence of each conversation, from which the session resumes. */
  private final Map<String, Long> cursors = new HashMap<>();

  /** Unanswered frames, in order. They are sent again on the next connection. */
  private final Map<Long, Call> unanswered = new LinkedHashMap<>();

  /** Frames that wait for a connection, or for room in the window. */
  private final Queue<Call> waiting = new ArrayDeque<>();

  /** The epoch of the log that the cursors are in: with it, the server notices if entries up to them were lost. */
  private String epoch = "";

  private Connection connection;
  private long lastId;
  private int failures;

  Session(ManagedChannel channel, String actorId) {
    this.channel = channel;
    this.actorId = actorId;
    // Otherwise the thread would run until the timeout of the last connection.
    thread.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
    thread.execute(this::connect);
  }

  /**
   * Waits for the next item: event, caught_up, closed or truncated. Throws after the last one, with the error that ended the
   * session: one that a retry would not help, for example because the user may not act.
   */
  ChatResponse next() throws InterruptedException {
    ChatResponse item = items.take();
    if (item == END) {
      items.add(END);
      throw ended.join();
    }
    thread.execute(() -> connection.readOn());
    return item;
  }

  /** The number of times the session was opened. */
  int connections() {
    return connections;
  }

  /** Submits a frame without waiting for its answer. A send needs a request id: it may be sent more than once. */
  CompletableFuture<Ack> call(ChatRequest.Builder frame) {
    var call = new Call(frame, new CompletableFuture<>());
    thread.execute(
        () -> {
          if (ended.isDone()) {
            call.answer().completeExceptionally(ended.join());
          } else {
            waiting.add(call);
            connection.sendWaiting();
          }
        });
    return call.answer();
  }

  @Override
  public void close() {
    thread.execute(
        () -> {
          finish(Status.CANCELLED.withDescription("the session was closed").asRuntimeException());
          if (connection.isLost) {
            thread.shutdown();
          } else {
            // gRPC reports the loss on the thread, so this comes before its end.
            connection.cancel("the session was closed", null);
          }
        });
  }

  private void connect() {
    if (ended.isDone()) {
      return;
    }
    // By default, gRPC reconnects only after up to two minutes.
    channel.resetConnectBackoff();
    connection = new Connection();
    connection.open();
  }

  /** Reconnects after a pause, unless that would not help. */
  private void disconnected(StatusRuntimeException cause, boolean wasOpen, Duration askedFor) {
    if (ended.isDone()) {
      thread.shutdown();
      return;
    }
    if (!Failures.mayTryAgain(cause)) {
      finish(cause);
      return;
    }
    failures = wasOpen ? 0 : failures + 1;
    Duration pause =
        askedFor != null ? askedFor : Failures.retryDelay(cause).orElse(Failures.pauseAfter(failures));
    System.err.printf(
        "the session of %s is tried again in %d ms: %s%n", actorId, pause.toMillis(), cause.getMessage());
    thread.schedule(this::connect, pause.toMillis(), TimeUnit.MILLISECONDS);
  }

  private void finish(StatusRuntimeException cause) {
    if (!ended.complete(cause)) {
      return;
    }
    unanswered.values().forEach(call -> call.answer().completeExceptionally(cause));
    waiting.forEach(call -> call.answer().completeExceptionally(cause));
    items.add(END);
  }

  /** Returns whether an item is new to the application, and advances the cursors. */
  private boolean isNew(ChatResponse response) throws Hole {
    switch (response.getItemCase()) {
      case EVENT -> {
        String id = response.getEvent().getConversationId();
        long sequence = response.getEvent().getSequence();
        if (sequence == 0) {
          return true; // live only, and in no log
        }
        // An unknown conversation begins at its first entry received.
        long last = cursors.getOrDefault(id, sequence - 1);
        if (sequence > last + 1) {
          throw new Hole("after entry " + last + " of " + id + " comes " + sequence);
        }
        cursors.put(id, Math.max(last, sequence));
        return sequence > last;
      }
      case CAUGHT_UP -> {
        String id = response.getCaughtUp().getConversationId();
        long sequence = response.getCaughtUp().getSequence();
        // Without a conversation it is the mark for all of them.
        if (!id.isEmpty() && cursors.computeIfAbsent(id, unknown -> sequence) < sequence) {
          throw new Hole("caught up at " + sequence + ", without what comes after " + cursors.get(id));
        }
        return true;
      }
      case TRUNCATED -> {
        // Entries removed by retention are announced, and are not a gap.
        var truncated = response.getTruncated();
        cursors.merge(truncated.getConversationId(), truncated.getOldestSequence() - 1, Math::max);
        return true;
      }
      case CLOSED -> {
        cursors.remove(response.getClosed().getConversationId());
        return true;
      }
      case HEARTBEAT -> {
        if (!response.getHeartbeat().getEpoch().isEmpty()) {
          epoch = response.getHeartbeat().getEpoch();
        }
        return false;
      }
      default -> {
        // A kind newer than this program.
        return false;
      }
    }
  }

  /** An entry is missing. Whatever caused the gap, reading again from the cursor fixes it. */
  private static final class Hole extends Exception {
    private static final long serialVersionUID = 1L;

    Hole(String what) {
      super(what);
    }
  }

  /** A connection, from open to its end. */
  private final class Connection implements ClientResponseObserver<ChatRequest, ChatResponse> {
    private ClientCallStreamObserver<ChatRequest> requests;
    private ScheduledFuture<?> alarm;
    private boolean isOpen;
    private boolean isDraining;
    private boolean isLost;
    private boolean wantsMore;

    /** The reason why this side abandoned it; later items are dropped. */
    private StatusRuntimeException given;

    private Duration pause;

    void open() {
      MessageServiceGrpc.newStub(channel).withExecutor(thread).chat(this);
      var all = new ArrayList<Cursor>();
      cursors.forEach(
          (id, after) -> all.add(Cursor.newBuilder().setConversationId(id).setAfterSequence(after).build()));
      int end = Math.min(MAX_CURSORS, all.size());
      var open =
          ChatOpen.newBuilder()
              .setActorId(actorId)
              .setEpoch(epoch)
              .setStart(SubscribeStart.SUBSCRIBE_START_BEGINNING)
              .addAllCursors(all.subList(0, end))
              .setMoreCursors(end < all.size());
      requests.onNext(ChatRequest.newBuilder().setOpen(open).build());
      while (end < all.size()) {
        int start = end;
        end = Math.min(start + MAX_CURSORS, all.size());
        var part = ChatCursors.newBuilder().addAllCursors(all.subList(start, end)).setMoreCursors(end < all.size());
        requests.onNext(ChatRequest.newBuilder().setCursors(part).build());
      }
      expectMore();
    }

    @Override
    public void beforeStart(ClientCallStreamObserver<ChatRequest> requests) {
      this.requests = requests;
      // The next one is requested when there is room: a slow reader falls back to the log and loses nothing.
      requests.disableAutoRequestWithInitial(1);
    }

    @Override
    public void onNext(ChatResponse response) {
      if (given != null) {
        return;
      }
      alarm.cancel(false);
      expectMore();
      take(response);
      wantsMore = true;
      readOn();
    }

    @Override
    public void onError(Throwable error) {
      lost((StatusRuntimeException) error);
    }

    @Override
    public void onCompleted() {
      lost(Status.UNAVAILABLE.withDescription("the server has ended the stream").asRuntimeException());
    }

    private void lost(StatusRuntimeException error) {
      alarm.cancel(false);
      isLost = true;
      disconnected(given != null ? given : error, isOpen, pause);
    }

    /** Abandons it. gRPC then reports its end by `onError`. */
    void cancel(String why, StatusRuntimeException cause) {
      if (given == null) {
        given = cause != null ? cause : Status.UNAVAILABLE.withDescription(why).asRuntimeException();
        requests.cancel(why, null);
      }
    }

    void readOn() {
      if (wantsMore && !isLost && items.size() < MAX_KEPT) {
        wantsMore = false;
        requests.request(1);
      }
    }

    void sendWaiting() {
      while (isOpen && !isDraining && !isLost && unanswered.size() < MAX_UNANSWERED && !waiting.isEmpty()) {
        Call call = waiting.remove();
        call.frame().setFrameId(++lastId);
        unanswered.put(lastId, call);
        transmit(call);
      }
    }

    private void transmit(Call call) {
      if (given == null) {
        requests.onNext(call.frame().build());
      }
    }

    private void expectMore() {
      alarm =
          thread.schedule(
              () -> cancel("the server was silent for too long", null), SILENCE.toMillis(), TimeUnit.MILLISECONDS);
    }

    private void take(ChatResponse response) {
      switch (response.getItemCase()) {
        case OPENED -> {
          isOpen = true;
          connections++;
          unanswered.values().forEach(this::transmit);
          sendWaiting();
        }
        case DRAINING -> {
          // The server still answers the frames that it has read, then ends the stream.
          isDraining = true;
          pause = Failures.toJava(response.getDraining().getRetryDelay());
        }
        case ACK -> {
          Call call = unanswered.remove(response.getAck().getFrameId());
          if (call != null) {
            call.answer().complete(response.getAck());
          }
          sendWaiting();
        }
        case NACK -> {
          var cause = StatusProto.toStatusRuntimeException(response.getNack().getStatus());
          if (!isOpen || Failures.mayTryAgain(cause)) {
            // All unanswered frames are sent again on a new connection, which keeps their order.
            cancel("a frame was not done", cause);
            return;
          }
          Call call = unanswered.remove(response.getNack().getFrameId());
          if (call != null) {
            call.answer().completeExceptionally(cause);
          }
          sendWaiting();
        }
        default -> {
          try {
            if (isNew(response)) {
              items.add(response);
            }
          } catch (Hole hole) {
            cancel(hole.getMessage(), null);
          }
        }
      }
    }
  }
}
