package dev.parlance.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;

/** The details of errors from the services, and when to retry. */
final class Failures {
  static final Duration FIRST_PAUSE = Duration.ofMillis(100);
  static final Duration LAST_PAUSE = Duration.ofSeconds(5);

  private Failures() {}

  /** Returns the reason of an error (parlance.error.v1.ErrorReason); empty if the error does not come from the services. */
  static String reason(Throwable error) {
    return detail(error, ErrorInfo.class).map(ErrorInfo::getReason).orElse("");
  }

  /** Returns the retry delay that the server requested, if any. */
  static Optional<Duration> retryDelay(Throwable error) {
    return detail(error, RetryInfo.class).map(RetryInfo::getRetryDelay).map(Failures::toJava);
  }

  /** Returns true if a retry may succeed and, with a request id, is harmless. */
  static boolean mayTryAgain(Throwable error) {
    return switch (io.grpc.Status.fromThrowable(error).getCode()) {
      case UNAVAILABLE, ABORTED, DEADLINE_EXCEEDED -> true;
      default -> {
        // Every error from the services has a reason: one without comes from the connection.
        String reason = reason(error);
        yield reason.isEmpty() || reason.equals("OVERLOADED");
      }
    };
  }

  /** Returns a pause that grows and is jittered, so that clients do not all reconnect at once. */
  static Duration pauseAfter(int failures) {
    long longest = Math.min(FIRST_PAUSE.toMillis() << Math.min(failures, 10), LAST_PAUSE.toMillis());
    return Duration.ofMillis(ThreadLocalRandom.current().nextLong(longest / 2, longest + 1));
  }

  static Duration toJava(com.google.protobuf.Duration duration) {
    return Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
  }

  /** Returns one of the details of an error from the services. */
  private static <T extends Message> Optional<T> detail(Throwable error, Class<T> kind) {
    var status = StatusProto.fromThrowable(error);
    if (status == null) {
      return Optional.empty();
    }
    for (Any packed : status.getDetailsList()) {
      if (packed.is(kind)) {
        try {
          return Optional.of(packed.unpack(kind));
        } catch (InvalidProtocolBufferException malformed) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }
}
