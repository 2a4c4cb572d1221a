# syntax=docker/dockerfile:1
# An image of `lake`: docker build -t lake . && docker run --init --rm -v "$PWD:/project" lake build

FROM rust:1.95-slim-bookworm AS build
# What compiles the C parts of dependencies.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends cmake g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Dependencies and what is compiled of them stay on the builder, so that a change of lake alone is compiled alone.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin lake && cp target/dist/lake /usr/local/bin/lake

FROM debian:bookworm-slim
# Certificates of object stores.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home lake \
    && install --directory --owner lake --group lake /project
COPY --from=build /usr/local/bin/lake /usr/local/bin/lake
# lake, by number: platforms that refuse root want to see that it is not.
USER 1000:1000
WORKDIR /project
# A project is mounted here, or copied by an image that is made of this one.
ENTRYPOINT ["lake"]
CMD ["--help"]
