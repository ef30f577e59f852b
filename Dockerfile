# The serving image: no PyTorch, no compiler, no root.
#
#   docker build -t tandem .                          CPU
#   docker build -t tandem:gpu --build-arg RUNTIME=gpu .   NVIDIA; run it with --gpus all

FROM python:3.11-slim AS build
ARG RUNTIME=cpu
WORKDIR /src
RUN python -m venv /opt/tandem
ENV PATH=/opt/tandem/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Dependencies first: this layer stays while only code changes.
COPY pyproject.toml ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['${RUNTIME}'], sep='\n')" > requirements.txt \
    && pip install --requirement requirements.txt
COPY README.md LICENSE ./
COPY models models
COPY service service
COPY tandem tandem
COPY training training
RUN pip install --no-deps .

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home tandem
COPY --from=build /opt/tandem /opt/tandem
WORKDIR /app
COPY bundles/demo bundles/demo
ENV PATH=/opt/tandem/bin:$PATH PYTHONUNBUFFERED=1 TANDEM_HOST=0.0.0.0 TANDEM_PORT=8000 TANDEM_BUNDLE=bundles/demo
USER tandem
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['TANDEM_PORT'] + '/livez', timeout=2)"]
CMD ["tandem", "serve"]
