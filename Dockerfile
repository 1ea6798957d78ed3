# Two images: `docker build --target sidecar .` and `docker build --target control-plane .`
# Debian and Debian's Python; every Python package by hash. Nothing in them needs a shell at run time.

FROM debian:12-slim AS python
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 ca-certificates \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/doorward/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# /opt/pip installs into /opt/doorward, so that the images hold no pip.
FROM python AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY image/build.lock image/sidecar.lock image/control-plane.lock image/
RUN python3 -m venv /opt/pip \
 && /opt/pip/bin/pip install --quiet --require-hashes -r image/build.lock \
 && python3 -m venv --without-pip /opt/doorward
COPY pyproject.toml README.md LICENSE ./
COPY certs certs
COPY mesh mesh
COPY transport transport
COPY sidecar sidecar
COPY control_plane control_plane
RUN /opt/pip/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /dist .

FROM build AS build-sidecar
RUN /opt/pip/bin/pip --python /opt/doorward/bin/python install --quiet --require-hashes -r image/sidecar.lock \
 && /opt/pip/bin/pip --python /opt/doorward/bin/python install --quiet --no-deps --no-index /dist/doorward-*.whl

FROM build AS build-control-plane
RUN /opt/pip/bin/pip --python /opt/doorward/bin/python install --quiet --require-hashes -r image/control-plane.lock \
 && /opt/pip/bin/pip --python /opt/doorward/bin/python install --quiet --no-deps --no-index /dist/doorward-*.whl

# iptables is for `doorward-sidecar redirect` alone, which an init container runs once.
FROM python AS sidecar
RUN apt-get update \
 && apt-get install --yes --no-install-recommends iptables \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build-sidecar /opt/doorward /opt/doorward
LABEL org.opencontainers.image.title="doorward-sidecar" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 1337:1337
ENTRYPOINT ["doorward-sidecar"]
CMD ["run"]

FROM python AS control-plane
COPY --from=build-control-plane /opt/doorward /opt/doorward
LABEL org.opencontainers.image.title="doorward-control-plane" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
ENTRYPOINT ["doorward"]
CMD ["control-plane", "run"]
