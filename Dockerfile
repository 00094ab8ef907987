# docker build -t gitserver .
# docker run -v gitserver-data:/var/lib/gitserver -p 8443:8443 -p 2222:2222 gitserver

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/gitserver
COPY setup.cfg pyproject.toml README.md ./
COPY config config
COPY gitserver gitserver
RUN /opt/gitserver/bin/pip install --no-cache-dir --disable-pip-version-check ".[postgres]"

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 990 gitserver \
    && useradd --system --uid 990 --gid gitserver --home-dir /var/lib/gitserver --shell /usr/sbin/nologin gitserver \
    && install -d -o gitserver -g gitserver -m 0700 /var/lib/gitserver
COPY --from=build /opt/gitserver /opt/gitserver
ENV PATH=/opt/gitserver/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GITSERVER_DATA=/var/lib/gitserver/data \
    GITSERVER_HTTPS_LISTEN=0.0.0.0:8443 \
    GITSERVER_SSH_LISTEN=0.0.0.0:2222
USER 990:990
VOLUME /var/lib/gitserver
EXPOSE 8443 2222
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["gitserver", "doctor", "--only", "ports"]
ENTRYPOINT ["gitserver"]
CMD ["serve", "--init"]
