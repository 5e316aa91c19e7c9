# FSL-MRS-DL with FSLeyes and its plugin:
#   docker build -t fsl_mrs_dl .
#   docker run --rm -v "$PWD:/data" -w /data fsl_mrs_dl fit --data metab.nii.gz --basis basis --output fit --report
#   docker run --rm -e DISPLAY -v /tmp/.X11-unix:/tmp/.X11-unix -v "$PWD:/data" -w /data fsl_mrs_dl view fit
# PIP_ARGUMENTS of the build go to pip, for example to choose PyTorch's builds for CPUs: --build-arg PIP_ARGUMENTS="..."
FROM debian:bookworm-slim AS build
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends ca-certificates git python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python3 -m venv /build && /build/bin/pip install -q build \
    && git config --global --add safe.directory /source \
    && /build/bin/python -m build --wheel --outdir /wheels /source

FROM debian:bookworm-slim
# FSLeyes needs Debian's wxPython, and with it Debian's Python; Xvfb lets 'xvfb-run fsl_mrs_dl view' draw without a screen.
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        ca-certificates python3-venv python3-wxgtk4.0 libosmesa6 libgl1-mesa-dri xvfb xauth \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
COPY constraints.txt /wheels/
ARG PIP_ARGUMENTS=""
RUN /usr/bin/python3 -m venv --system-site-packages /opt/fsl_mrs_dl \
    && /opt/fsl_mrs_dl/bin/pip install --no-cache-dir $PIP_ARGUMENTS -c /wheels/constraints.txt \
        "$(echo /wheels/*.whl)[fsleyes,run,parallel]" \
    && rm -rf /wheels
ENV PATH=/opt/fsl_mrs_dl/bin:$PATH LANG=C.UTF-8
RUN fsl_mrs_dl doctor
ENTRYPOINT ["fsl_mrs_dl"]
CMD ["--help"]
