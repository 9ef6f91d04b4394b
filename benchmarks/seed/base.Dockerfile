# An image made of Debian packages in place of python:3.13-slim. It has this machine's CA certificates and pip
# configuration, which downloads need.
FROM scratch
ADD base.tar /
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf /etc/pip.conf
RUN rm -f /usr/lib/python3.13/EXTERNALLY-MANAGED
ENV PIP_ROOT_USER_ACTION=ignore UV_NATIVE_TLS=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
CMD ["python3"]
