# Both services in one image. `docker build .` is all it takes; nothing in here needs BuildKit.
#
#   docker build --tag parlance .
#   docker run … parlance user-service serve         # or: migrate, healthcheck
#   docker run … parlance message-service serve

# Of cargo. `release` is for use; `quick` is done sooner, for trying out the image itself.
ARG PROFILE=release

# What third-party crates depend on, and nothing more: the manifests, the lock, and an empty source where a manifest
# expects one. Docker compares what comes out of here, modes included, so a change of our own sources, or a checkout with
# another umask, does not build those crates again.
FROM rust:1.95-slim-bookworm AS manifests
WORKDIR /parlance
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -name build.rs \
        ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path '*/src/bin/*.rs' -delete \
    && find . -type d -empty -delete \
    && for file in $(find . -name '*.rs'); do echo 'fn main() {}' >"$file"; done \
    && chmod -R u=rwX,go=rX .

FROM rust:1.95-slim-bookworm AS dependencies
ARG PROFILE
WORKDIR /parlance
COPY --from=manifests /parlance .
# The empty crates are removed again: cargo goes by times, and our sources are older than what was built of the empty ones.
RUN cargo build --locked --profile "$PROFILE" --package user-service --package message-service --bins \
    && cargo clean --workspace --profile "$PROFILE"

FROM dependencies AS build
ARG PROFILE
COPY . .
RUN cargo build --locked --profile "$PROFILE" --package user-service --package message-service --bins \
    && install -D --target-directory=/out target/*/user-service target/*/message-service

FROM debian:bookworm-slim AS parlance
LABEL org.opencontainers.image.title="Parlance" \
      org.opencontainers.image.description="A self-hosted chat backend: user-service and message-service" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /usr/local/bin/
# A number, so that an orchestrator can see that it is not root. Nothing is written, so the user needs no home.
USER 65532:65532
STOPSIGNAL SIGTERM
EXPOSE 50051 50052 9090
# LISTEN says which service is asked; both answer the same question.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["user-service", "healthcheck"]
CMD ["user-service", "serve"]
# Last, since it is another one with each commit.
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="$REVISION"
