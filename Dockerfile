# The service without a database: DATABASE_URL says which PostgreSQL it is to use.

FROM python:3.13-slim AS builder

COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    UV_CACHE_DIR=/var/cache/uv \
    VIRTUAL_ENV=/opt/etl
WORKDIR /build

# The dependencies first, and apart: they change less often than the code. What has no hash in the lock is refused.
COPY pyproject.toml requirements.lock ./
RUN --mount=type=cache,target=/var/cache/uv \
    uv venv "$VIRTUAL_ENV" \
    && uv pip install --require-hashes --constraint requirements.lock -r pyproject.toml

COPY README.md LICENSE ./
COPY migrations migrations
COPY app app
RUN --mount=type=cache,target=/var/cache/uv \
    uv pip install --no-deps .


FROM python:3.13-slim

LABEL org.opencontainers.image.title="etl-river" \
      org.opencontainers.image.description="An async ETL service on PostgreSQL: JSON APIs and CSV files in, an honest API out." \
      org.opencontainers.image.licenses="MIT"

RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin etl
COPY --from=builder /opt/etl /opt/etl
ENV PATH=/opt/etl/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000
WORKDIR /
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# /livez and not /health: a database that is away is no reason to restart the service, which waits for it
HEALTHCHECK --interval=30s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/livez', timeout=2)"]

ENTRYPOINT ["etl"]
CMD ["serve"]
