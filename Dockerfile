# The service with the embedded model: docs/container.md.
#   docker build -t dynrefer .                              on the CPU
#   docker build -t dynrefer:cuda --build-arg VARIANT=cuda . on a GPU: docker run --gpus all ...
#   docker build -t dynrefer:ray --build-arg VARIANT=cuda --build-arg RAY=yes .   with Ray: docs/kubernetes.md
# BASE may be any image with Python 3.11, venv and pip on the PATH as `python` and `pip`. A tag can be moved to other
# content; a digest cannot: --build-arg BASE=python:3.11.14-slim-bookworm@sha256:..., see docs/container.md.
ARG BASE=python:3.11.14-slim-bookworm
ARG VARIANT=cpu

FROM ${BASE} AS build
ARG VARIANT
# Anything: Ray is in the image, for replicas on many GPUs.
ARG RAY=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore UV_NO_CACHE=1
# Without pip: the running service does not need it.
RUN python -m venv --without-pip /opt/dynrefer
WORKDIR /src
# What changes least comes first. Every file that is installed has its hash in a lock, but for one: the CPU build of torch
# comes from the index that pip is configured with, or else from PyTorch's own, whose address uv knows, and its hash
# depends on which. The default build, for CUDA, is locked together with its libraries.
COPY docker/requirements-${VARIANT}.txt docker/requirements-uv.txt ./
RUN if [ "${VARIANT}" = cpu ]; then \
        pip --python /opt/dynrefer/bin/python install --no-deps -r requirements-cpu.txt \
        || { pip install --no-deps --require-hashes --target /opt/uv -r requirements-uv.txt \
            && /opt/uv/bin/uv pip install --python /opt/dynrefer/bin/python --compile-bytecode --no-deps --torch-backend cpu -r requirements-cpu.txt; }; \
    else pip --python /opt/dynrefer/bin/python install --no-deps --require-hashes -r requirements-${VARIANT}.txt; fi
COPY docker/requirements.txt docker/requirements-ray.txt ./
RUN pip --python /opt/dynrefer/bin/python install --no-deps --require-hashes \
        -r requirements.txt ${RAY:+-r requirements-ray.txt}
COPY pyproject.toml README.md LICENSE NOTICE ./
# Without the workbench (training and evaluation): its link in dynrefer/ dangles here, and setuptools passes over it.
COPY dynrefer dynrefer
COPY model model
COPY service service
RUN pip --python /opt/dynrefer/bin/python install --no-deps --no-build-isolation . \
    && pip --python /opt/dynrefer/bin/python check
# torch's tests, C++ headers and C++ tools; torch_shm_manager stays, because importing torch looks for it.
RUN rm -rf /opt/dynrefer/lib/python3*/site-packages/torch/test /opt/dynrefer/lib/python3*/site-packages/torch/include \
    && find /opt/dynrefer/lib/python3*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete

FROM ${BASE} AS tools
WORKDIR /tools
COPY docker/requirements-tools.txt ./
RUN python -m venv /opt/tools \
    && /opt/tools/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements-tools.txt

# The inventory: name, version and licence of every Python package, and the Debian packages of the base.
FROM build AS inventory
COPY --from=tools /opt/tools /opt/tools
WORKDIR /inventory
RUN /opt/tools/bin/cyclonedx-py environment --output-reproducible --pyproject /src/pyproject.toml \
        --output-file sbom.cdx.json /opt/dynrefer/bin/python \
    && /opt/tools/bin/pip-licenses --python /opt/dynrefer/bin/python --with-urls --with-system \
        --format markdown --output-file licences.md \
    && dpkg-query --show >debian-packages.txt

FROM ${BASE}
ARG VARIANT
LABEL org.opencontainers.image.title="dynrefer" \
    org.opencontainers.image.description="Describes image regions over HTTP: captions, tags, attributes and categories" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin dynrefer \
    && install --directory --owner=dynrefer --group=dynrefer /models /corrections
# Python images ship the standard library without bytecode, and a read-only root file system could not store it.
RUN python -m compileall -q -x '/(tests?|lib2to3|site-packages|dist-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=inventory /inventory /usr/share/doc/dynrefer
COPY --from=build /opt/dynrefer /opt/dynrefer
# A variant has the name of its device: without a GPU the CUDA variant refuses to start instead of being slow. No port:
# it would go before the one that a platform chooses.
ENV PATH=/opt/dynrefer/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 \
    DYNREFER_HOST=0.0.0.0 DYNREFER_MODEL=embedded \
    DYNREFER_DEVICE=${VARIANT} DYNREFER_LOG_FORMAT=json
VOLUME /models
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "dynrefer.service.healthcheck"]
ENTRYPOINT ["dynrefer"]
CMD ["serve"]
