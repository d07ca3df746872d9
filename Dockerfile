# foreshock's images: targets cpu (default), cuda and test. Same contents as apptainer.def; docs/images.md says more.
#
#   docker build -t foreshock .                        cpu: a laptop, the demo, aggregation
#   docker build -t foreshock:cuda --target cuda .     a GPU node, with vLLM
#
# Both base names are pinned in containers/pins.toml. --build-arg BASE_IMAGE=... builds on a local base instead.
# --build-context wheels=FOLDER installs from downloaded wheels without network; --build-context djinn=FOLDER adds
# djinn from a checkout. --secret id=pipconf,src=FILE passes a pip configuration without leaving it in the image.
ARG BASE_IMAGE=docker.io/library/python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
ARG CUDA_BASE_IMAGE=docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04@sha256:2ab6381d970b211fb93853796dc6707eb8a72575a375c422b17cf4d8b2641701

# Empty unless a build context of the same name replaces them.
FROM scratch AS wheels
FROM scratch AS djinn

# ---- cpu ------------------------------------------------------------------------------------------------------------

FROM ${BASE_IMAGE} AS cpu-base
COPY containers/install.sh containers/pins.toml /usr/local/foreshock-build/containers/
RUN /usr/local/foreshock-build/containers/install.sh system cpu && rm -rf /usr/local/foreshock-build

FROM cpu-base AS cpu-packages
COPY containers/install.sh containers/pins.toml /usr/local/foreshock-build/containers/
COPY containers/locks/cpu.txt /usr/local/foreshock-build/containers/locks/
RUN --mount=type=bind,from=wheels,target=/mnt \
    --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    /usr/local/foreshock-build/containers/install.sh packages cpu

FROM cpu-packages AS cpu-app
COPY . /usr/local/foreshock-build/
ARG BASE_IMAGE
ARG GIT_COMMIT=unknown
ARG SOURCE_DATE_EPOCH=1767225600
RUN --mount=type=bind,from=djinn,target=/srv \
    SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}" /usr/local/foreshock-build/containers/install.sh app cpu "${GIT_COMMIT}" "${BASE_IMAGE}"

FROM cpu-base AS cpu-runtime
COPY --from=cpu-packages /usr/local/foreshock/venv /usr/local/foreshock/venv
COPY --from=cpu-app /usr/local/foreshock/app /usr/local/foreshock/app
COPY --from=cpu-app /usr/local/foreshock/image /usr/local/foreshock/image

# ---- cuda -----------------------------------------------------------------------------------------------------------

FROM ${CUDA_BASE_IMAGE} AS cuda-base
COPY containers/install.sh containers/pins.toml /usr/local/foreshock-build/containers/
RUN /usr/local/foreshock-build/containers/install.sh system gpu && rm -rf /usr/local/foreshock-build

FROM cuda-base AS cuda-packages
COPY containers/install.sh containers/pins.toml /usr/local/foreshock-build/containers/
COPY containers/locks/gpu.txt /usr/local/foreshock-build/containers/locks/
RUN --mount=type=bind,from=wheels,target=/mnt \
    --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    /usr/local/foreshock-build/containers/install.sh packages gpu

FROM cuda-packages AS cuda-app
COPY . /usr/local/foreshock-build/
ARG CUDA_BASE_IMAGE
ARG GIT_COMMIT=unknown
ARG SOURCE_DATE_EPOCH=1767225600
RUN --mount=type=bind,from=djinn,target=/srv \
    SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}" /usr/local/foreshock-build/containers/install.sh app gpu "${GIT_COMMIT}" "${CUDA_BASE_IMAGE}"

FROM cuda-base AS cuda-runtime
COPY --from=cuda-packages /usr/local/foreshock/venv /usr/local/foreshock/venv
COPY --from=cuda-app /usr/local/foreshock/app /usr/local/foreshock/app
COPY --from=cuda-app /usr/local/foreshock/image /usr/local/foreshock/image

# ---- what both are in use: environment, user, labels; the block is repeated because targets cannot share it ---------

FROM cuda-runtime AS cuda
ENV PATH=/usr/local/foreshock/app/bin:/usr/local/foreshock/venv/bin:/usr/local/foreshock/venv/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    CUDA_HOME=/usr/local/foreshock/venv/cuda \
    USER=foreshock \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    VLLM_NO_USAGE_STATS=1 \
    DO_NOT_TRACK=1
USER 1000:1000
ARG CUDA_BASE_IMAGE
LABEL org.opencontainers.image.base.name="${CUDA_BASE_IMAGE}" \
      io.foreshock.variant="gpu"
ARG GIT_COMMIT=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="foreshock" \
      org.opencontainers.image.licenses="Apache-2.0 AND BSD-2-Clause AND BSD-3-Clause AND ISC AND MIT AND MPL-2.0 AND PSF-2.0 AND LicenseRef-Ubuntu AND LicenseRef-NVIDIA-CUDA-EULA" \
      org.opencontainers.image.revision="${GIT_COMMIT}" \
      io.foreshock.lock.sha256="${LOCK_SHA256}"
WORKDIR /data
ENTRYPOINT ["/usr/local/foreshock/app/bin/foreshock-enter", "foreshock"]
CMD ["--help"]

# The cpu image and the test suite's packages and sources: `make test-image` runs it without network.
FROM cpu-runtime AS test
COPY . /usr/local/foreshock/source/
RUN --mount=type=bind,from=wheels,target=/mnt \
    --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    /usr/local/foreshock/source/containers/install.sh packages test
ENV PATH=/usr/local/foreshock/app/bin:/usr/local/foreshock/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    USER=foreshock \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    VLLM_NO_USAGE_STATS=1 \
    DO_NOT_TRACK=1
USER 1000:1000
WORKDIR /usr/local/foreshock/source
ENTRYPOINT ["/usr/local/foreshock/app/bin/foreshock-enter", "python", "-m", "pytest"]

FROM cpu-runtime AS cpu
ENV PATH=/usr/local/foreshock/app/bin:/usr/local/foreshock/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    USER=foreshock \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    VLLM_NO_USAGE_STATS=1 \
    DO_NOT_TRACK=1
USER 1000:1000
ARG BASE_IMAGE
LABEL org.opencontainers.image.base.name="${BASE_IMAGE}" \
      io.foreshock.variant="cpu"
ARG GIT_COMMIT=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="foreshock" \
      org.opencontainers.image.licenses="Apache-2.0 AND BSD-2-Clause AND BSD-3-Clause AND ISC AND MIT AND MPL-2.0 AND PSF-2.0 AND LicenseRef-Debian" \
      org.opencontainers.image.revision="${GIT_COMMIT}" \
      io.foreshock.lock.sha256="${LOCK_SHA256}"
WORKDIR /data
ENTRYPOINT ["/usr/local/foreshock/app/bin/foreshock-enter", "foreshock"]
CMD ["--help"]
