# syntax=docker/dockerfile:1
# docker build -t herdsman .
FROM rust:1.95-slim-bookworm AS build
# A C and a C++ compiler and make: for the cryptography, Kafka's client and SQLite, which are built from source.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential ca-certificates && rm -rf /var/lib/apt/lists/*
# All that there is beside the program: certificates of public authorities (for `sslmode: verify-full`), how names are looked
# up (`localhost` in /etc/hosts first), names for the account, its folder, and one for files that are soon gone.
RUN install -D -m 0644 -t /out/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt \
    && echo 'hosts: files dns' >/out/etc/nsswitch.conf \
    && echo 'herdsman:x:10001:10001::/var/lib/herdsman:/sbin/nologin' >/out/etc/passwd && echo 'herdsman:x:10001:' >/out/etc/group \
    && install -d -m 0755 /out/usr/bin /out/var/lib && install -d -m 1777 /out/tmp \
    && install -d -o 10001 -g 10001 -m 0700 /out/var/lib/herdsman
WORKDIR /src
COPY . .
# Static, so that it needs nothing of what it runs on. Libraries for the build itself (macros) cannot be: hence the named target.
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    host="$(rustc -vV | sed -n 's/^host: //p')" && cargo build --release --locked -p herdsman-cli --target "$host" \
    && install -m 0755 "target/$host/release/herdsman" /out/usr/bin/herdsman

# No shell, no libraries, no package manager.
FROM scratch
COPY --from=build /out /
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
