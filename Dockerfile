# syntax=docker/dockerfile:1
# The official image of Postgres with pg_tenancy:
#   docker build --build-arg PG_MAJOR=18 --tag pg_tenancy:18 .
#   docker run --env POSTGRES_PASSWORD=... pg_tenancy:18
# The library is preloaded, and the database that the image creates (POSTGRES_DB) has the extension. What else the
# official image documents is as there.
ARG PG_MAJOR=18
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-slim-bookworm AS rust

# The headers of just the Postgres that the library will run in.
FROM postgres:${PG_MAJOR}-bookworm AS build
ARG PG_MAJOR
ARG RUST_VERSION
ARG SOURCE_DATE_EPOCH=0
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup RUSTUP_TOOLCHAIN=${RUST_VERSION} \
    PATH=/usr/local/cargo/bin:$PATH
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        build-essential ca-certificates cmake dpkg-dev libclang-14-dev pkg-config python3 \
        "postgresql-server-dev-${PG_MAJOR}" \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make deb CI=true DEBS=/debs PG_CONFIG="/usr/lib/postgresql/${PG_MAJOR}/bin/pg_config"

FROM postgres:${PG_MAJOR}-bookworm
LABEL org.opencontainers.image.title="pg_tenancy" \
      org.opencontainers.image.description="Postgres with multi-tenant security: identity, isolation, audit" \
      org.opencontainers.image.licenses="PostgreSQL"
RUN --mount=type=bind,from=build,source=/debs,target=/debs \
    dpkg --install "/debs/postgresql-${PG_MAJOR}-pg-tenancy_"*.deb /debs/pg-tenancy-verify_*.deb \
    && echo "shared_preload_libraries = 'pg_tenancy'" >>/usr/share/postgresql/postgresql.conf.sample
COPY tools/docker/create_extension.sql /docker-entrypoint-initdb.d/10_pg_tenancy.sql
