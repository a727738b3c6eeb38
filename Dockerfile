# The dashboard and everything it starts, in one image.
#
#   docker build -t dianjing .                                CPU
#   docker build -t dianjing --build-arg TORCH=cuda .         CUDA; run it with --gpus all
#   docker compose up                                         then open http://127.0.0.1:7860
#
# Inside it listens on all addresses, so one has to sign in: DIANJING_OWNER_PASSWORD sets the password of the user
# "owner"; without it the log shows a link with which the first owner sets one.
FROM python:3.11-slim

ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 DIANJING_HOME=/data DIANJING_CONTAINER=1

WORKDIR /build
COPY pyproject.toml constraints.txt LICENSE README.md ./
COPY app app
COPY assets assets
COPY engine engine
COPY storage storage
RUN if [ "$TORCH" = cpu ]; then export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu; fi \
    && pip install --constraint constraints.txt .
RUN useradd --create-home dianjing && mkdir /data && chown dianjing /data

USER dianjing
WORKDIR /home/dianjing
VOLUME /data
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health', timeout=5)"]
CMD ["dianjing", "ui", "--host", "0.0.0.0"]
