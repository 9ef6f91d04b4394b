# The compiler is installed and used; it stays in the image.
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir .
CMD ["mandelbrot-tiles"]
