#!/bin/sh
# Makes the certificates of the TLS tests anew, with openssl 3. They are valid from 2020 to 2119 (or have expired on purpose);
# the keys protect nothing.
set -eu
cd "$(dirname "$0")"

ca() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=$2" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
        -keyout "$1.key" -out "$1.pem" 2>/dev/null
}

# leaf FILE SUBJECT_ALT_NAMES FROM UNTIL. Not `openssl x509`: before openssl 3.4 it can't make a certificate valid from
# an earlier day than today, and the clock of the next machine may be behind.
leaf() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=test" \
        -keyout "$1.key" -out "$work/csr" 2>/dev/null
    cat > "$work/config" <<END
[ca]
default_ca = test
[test]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = leaf
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = $2
END
    : > "$work/index"
    openssl ca -batch -notext -config "$work/config" -cert ca.pem -keyfile ca.key \
        -startdate "$3" -enddate "$4" -in "$work/csr" -out "$1.pem" 2>/dev/null
}

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
ca ca "reverse-proxy test CA"
ca stranger "a CA nobody asked"
leaf loopback "IP:127.0.0.1,IP:::1,DNS:localhost" 20200101000000Z 21200101000000Z
leaf named "DNS:backend.test" 20200101000000Z 21200101000000Z
leaf expired "IP:127.0.0.1" 20200101000000Z 20210101000000Z
rm ca.key stranger.key
