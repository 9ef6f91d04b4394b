# One RUN installs, uses and removes the compiler: it is in no layer, but no layer with it is cached either.
ARG BASE
FROM ${BASE}
WORKDIR /app
COPY . .
RUN apt-get update && \
    apt-get install -y --no-install-recommends gcc libc6-dev python3-dev && \
    pip install --no-cache-dir . && \
    apt-get purge -y gcc libc6-dev python3-dev && \
    apt-get autoremove -y && \
    rm -rf /var/lib/apt/lists/*
CMD ["mandelbrot-tiles"]
