# The program on a machine with NVIDIA GPUs, with workers (Ray) and servers of vLLM beside it:
#   docker build -t warmup-distill .
#   docker run --rm --gpus all -v "$PWD:/project" warmup-distill run mine.yaml --workers 8
# torch brings its own CUDA libraries; the base is there for what the driver looks for.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# Another build of torch, as for `make`: docker build --build-arg TORCH=torch==2.14.1 .
ARG TORCH=torch==2.13.0
RUN python3 -m venv /opt/warmup-distill \
    && /opt/warmup-distill/bin/pip install --no-cache-dir -c constraints.txt "$TORCH" ".[ray,vllm,lora,gguf]"

# Whoever runs it owns what it writes: docker run --user "$(id -u):$(id -g)" for another than 1001.
RUN useradd --create-home --uid 1001 distiller
USER distiller
ENV PATH=/opt/warmup-distill/bin:$PATH
WORKDIR /project
ENTRYPOINT ["warmup-distill"]
CMD ["--help"]
