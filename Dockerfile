# The service with the embedded model; torch is the build that the configured package index offers (the public
# index's default build carries CUDA; an index or a find-links folder with CPU builds makes a small image).
#   docker build -t dynrefer .
#   docker run --rm -p 8000:8000 --read-only --tmpfs /tmp dynrefer
# Another model: mount its directory and set DYNREFER_MODEL=/models/NAME.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv /opt/dynrefer
ENV PATH=/opt/dynrefer/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml requirements.txt README.md LICENSE NOTICE ./
# Dependencies first, so that a change of code does not install them again.
RUN mkdir model service && touch model/__init__.py service/__init__.py \
    && pip install --constraint requirements.txt . && pip uninstall --yes dynrefer \
    && rm -rf build *.egg-info # else setuptools takes the empty modules for newer than the real ones
COPY model model
COPY service service
RUN pip install --no-deps .

FROM ${BASE}
RUN useradd --system --uid 10001 --no-create-home dynrefer
COPY --from=build /opt/dynrefer /opt/dynrefer
ENV PATH=/opt/dynrefer/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 \
    OMP_WAIT_POLICY=passive KMP_BLOCKTIME=0 \
    DYNREFER_HOST=0.0.0.0 DYNREFER_PORT=8000 DYNREFER_MODEL=embedded
VOLUME /models
WORKDIR /tmp
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['DYNREFER_PORT']}/readyz\", timeout=2)"]
ENTRYPOINT ["dynrefer"]
CMD ["serve"]
