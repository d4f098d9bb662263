# wirespan with a bcc of its own and the kernel headers it compiles against: of the host it needs the kernel alone.
# amd64 and arm64, each built as itself. docs/design/0008-image-and-stack.md says why it is made so.

FROM debian:trixie-slim AS base
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      ca-certificates python3 python3-bpfcc \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old

FROM base AS headers
COPY scripts/unpack-kernel-headers.sh scripts/trim_kernel_headers.py /build/scripts/
COPY ebpf/bpf /build/ebpf/bpf
RUN apt-get update -qq \
 && /build/scripts/unpack-kernel-headers.sh /tmp/tree \
 && python3 /build/scripts/trim_kernel_headers.py /tmp/tree /kernel-headers \
 && cp /tmp/tree/PACKAGE /kernel-headers/

FROM base AS environment
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
WORKDIR /build
COPY locks locks
# pip and setuptools work from outside, so that neither is in the environment
RUN python3 -m venv tools \
 && python3 -m venv --without-pip /opt/wirespan \
 && tools/bin/pip install --quiet --no-cache-dir --require-hashes -r locks/build.txt \
 && tools/bin/pip --python /opt/wirespan/bin/python install --quiet --no-cache-dir --require-hashes -r locks/runtime.txt \
 # the asynchronous half of the client library: 65 MB that nothing here imports
 && rm -r /opt/wirespan/lib/python3.*/site-packages/kubernetes/aio \
 # of the system's Python packages bcc alone is let in
 && ln -s /usr/lib/python3/dist-packages/bcc "$(echo /opt/wirespan/lib/python3.*/site-packages)/bcc"
COPY pyproject.toml README.md LICENSE ./
COPY ebpf ebpf
COPY parsers parsers
COPY otel_bridge otel_bridge
COPY agent agent
COPY demo/__init__.py demo/
COPY demo/command demo/command
RUN tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheel . \
 && tools/bin/pip --python /opt/wirespan/bin/python install --quiet --no-deps wheel/*.whl
COPY --from=headers /kernel-headers /opt/wirespan/share/wirespan/kernel-headers

FROM base AS sbom
COPY scripts/write_sbom.py /build/
COPY --from=environment /opt/wirespan /opt/wirespan
RUN /opt/wirespan/bin/python /build/write_sbom.py /opt/wirespan/share/wirespan/kernel-headers >/sbom.cdx.json

FROM base
ARG VERSION=0.1.0
ARG REVISION
LABEL org.opencontainers.image.title="wirespan" \
      org.opencontainers.image.description="eBPF agent that turns the HTTP traffic of a Linux host into OpenTelemetry traces" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="debian:trixie-slim"
COPY --from=environment /opt/wirespan /opt/wirespan
COPY --from=sbom /sbom.cdx.json /usr/share/sbom/wirespan.cdx.json
ENV PATH=/opt/wirespan/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1
# The user is root, without any capability but those that the container is given. Another one would have none: neither
# Docker nor Kubernetes can give capabilities to a user that isn't root.
ENTRYPOINT ["wirespan"]
CMD ["run"]
