# As uv's guide for Docker recommends: two stages, dependencies before the project, a cache mount.
ARG BASE
FROM ${BASE} AS compile
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev
COPY --from=uv uv /bin/
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /app
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    uv sync --locked --no-install-project --no-editable --no-dev
COPY . .
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-editable --no-dev

FROM ${BASE}
COPY --from=compile /app/.venv /app/.venv
ENV PATH="/app/.venv/bin:$PATH"
CMD ["mandelbrot-tiles"]
