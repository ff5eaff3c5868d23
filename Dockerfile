# The base is a tag. For a release, pin it to the digest that
#   docker buildx imagetools inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}'
# prints: --build-arg BASE=python:3.11-slim-bookworm@sha256:... The same sources then make the same image:
#   docker buildx build --build-arg SOURCE_DATE_EPOCH=0 --output type=image,rewrite-timestamp=true ...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Every file that pip downloads is held against the lock here; what follows has no network.
COPY requirements.lock ./
RUN pip wheel --require-hashes --requirement requirements.lock --wheel-dir wheels
COPY pyproject.toml README.md LICENSE ./
COPY src src
# Only what the wheel asks for is installed, so the build backend, which the lock also holds, stays behind.
# Bytecode is compiled here because the root is read-only at run time; unchecked hashes hold no times.
# hadolint ignore=DL3013 # versions are those of the wheels above, which the lock fixed
RUN pip wheel --no-deps --no-index --find-links wheels --wheel-dir wheels . \
    && python -m venv --without-pip /opt/outrider \
    && pip --python /opt/outrider/bin/python install --no-index --find-links wheels --no-compile "outrider[sdk,tokens]" \
    && PYTHONHASHSEED=0 /opt/outrider/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/outrider/lib

FROM ${BASE}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="outrider" \
    org.opencontainers.image.description="The LLM sidecar" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/outrider/bin:${PATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/outrider /opt/outrider
USER 65532:65532
# gRPC for callers that share the network namespace, and HTTP for probes and metrics: on loopback unless configured.
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 CMD ["outrider", "health"]
ENTRYPOINT ["outrider"]
CMD ["serve"]
