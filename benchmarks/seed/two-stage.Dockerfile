# A stage with the compiler makes the virtual environment, which is copied into a stage without it.
ARG BASE
FROM ${BASE} AS compile
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev
RUN python -m venv /opt/venv
ENV PATH="/opt/venv/bin:$PATH"
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir .

FROM ${BASE}
COPY --from=compile /opt/venv /opt/venv
ENV PATH="/opt/venv/bin:$PATH"
CMD ["mandelbrot-tiles"]
