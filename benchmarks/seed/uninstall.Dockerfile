# The compiler is removed in a later layer; the layers below still contain it.
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir .
RUN apt-get purge -y gcc libc6-dev python3-dev && apt-get autoremove -y && rm -rf /var/lib/apt/lists/*
CMD ["mandelbrot-tiles"]
