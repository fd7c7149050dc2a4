# syntax=docker/dockerfile:1
# docker build -t herdsman .
FROM rust:1.95-slim-bookworm AS build
# A C and a C++ compiler and make: for the cryptography, Kafka's client and SQLite, which are built from source.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p herdsman-cli && install -D -m 0755 target/release/herdsman /out/herdsman

FROM debian:bookworm-slim
# ca-certificates: for `sslmode: verify-full` against servers with certificates of public authorities.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 herdsman && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/herdsman herdsman \
    && install -d -o herdsman -g herdsman -m 0700 /var/lib/herdsman
COPY --from=build /out/herdsman /usr/bin/herdsman
# By number: Kubernetes can only tell so that it is not root.
USER 10001:10001
# The API and the gateway.
EXPOSE 8080 6432
STOPSIGNAL SIGTERM
# That Herdsman answers; whether the servers do is what it tells. With TLS: --url https://localhost:8443 --cacert FILE.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["herdsman", "status", "--json", "--url", "http://127.0.0.1:8080"]
ENTRYPOINT ["herdsman"]
CMD ["run", "/etc/herdsman/herdsman.yml"]
