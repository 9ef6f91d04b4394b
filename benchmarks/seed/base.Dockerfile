# A stand-in for python:3.13-slim out of Debian's packages, as an image of this machine's registry would be:
# it knows the CAs and pip's configuration that this machine's downloads need.
FROM scratch
ADD base.tar /
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf /etc/pip.conf
RUN rm -f /usr/lib/python3.13/EXTERNALLY-MANAGED
ENV PIP_ROOT_USER_ACTION=ignore UV_NATIVE_TLS=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
CMD ["python3"]
