# Both services in one image, built by `docker build .`; BuildKit is not needed.
#
#   docker build --tag parlance .
#   docker run … parlance user-service serve         # or: migrate, healthcheck
#   docker run … parlance message-service serve

# Cargo's profile: `release` for production; `quick` builds faster, for testing the image itself.
ARG PROFILE=release

# The inputs of third-party crates and nothing else: the manifests, the lock file, and an empty source where a manifest
# expects one. Docker compares the output of this stage, file modes included, so a change of Parlance's sources, or a
# checkout with another umask, does not rebuild those crates.
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
# Removes the empty crates: cargo compares times, and Parlance's sources are older than the builds of the empty ones.
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
# A number, so that an orchestrator can verify that it is not root. Nothing is written, so the user needs no home.
USER 65532:65532
STOPSIGNAL SIGTERM
EXPOSE 50051 50052 9090
# LISTEN selects the service; both answer the same health check.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["user-service", "healthcheck"]
CMD ["user-service", "serve"]
# Last, because it changes with each commit.
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="$REVISION"
