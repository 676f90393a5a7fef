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

/** What an error of the services says, and when to try again. */
final class Failures {
  static final Duration FIRST_PAUSE = Duration.ofMillis(100);
  static final Duration LAST_PAUSE = Duration.ofSeconds(5);

  private Failures() {}

  /** An error's word for programs, of parlance.error.v1.ErrorReason; empty when the error is none of the services'. */
  static String reason(Throwable error) {
    return detail(error, ErrorInfo.class).map(ErrorInfo::getReason).orElse("");
  }

  /** How long the server asked to wait; or nothing. */
  static Optional<Duration> retryDelay(Throwable error) {
    return detail(error, RetryInfo.class).map(RetryInfo::getRetryDelay).map(Failures::toJava);
  }

  /** True when the same thing may work later, and, with a request id, is harmless to ask for again. */
  static boolean mayTryAgain(Throwable error) {
    return switch (io.grpc.Status.fromThrowable(error).getCode()) {
      case UNAVAILABLE, ABORTED, DEADLINE_EXCEEDED -> true;
      default -> {
        // Every error of the services has a reason: one without was made by the connection.
        String reason = reason(error);
        yield reason.isEmpty() || reason.equals("OVERLOADED");
      }
    };
  }

  /** Grows and is never the same, so that not all clients come back at one moment. */
  static Duration pauseAfter(int failures) {
    long longest = Math.min(FIRST_PAUSE.toMillis() << Math.min(failures, 10), LAST_PAUSE.toMillis());
    return Duration.ofMillis(ThreadLocalRandom.current().nextLong(longest / 2, longest + 1));
  }

  static Duration toJava(com.google.protobuf.Duration duration) {
    return Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
  }

  /** One of the details that an error of the services carries. */
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
