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
    leaf_of "$1" "-cert ca.pem -keyfile ca.key" CA:FALSE "$2" "$3" "$4"
}

# leaf_of FILE ISSUER CONSTRAINTS SUBJECT_ALT_NAMES FROM UNTIL. Environment: subject, usage, algorithm.
leaf_of() {
    # shellcheck disable=SC2086 # several words
    openssl req -new -utf8 -newkey ${algorithm:-ec -pkeyopt ec_paramgen_curve:P-256} -nodes -subj "/CN=${subject:-test}" \
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
organizationName = optional
countryName = optional
[leaf]
basicConstraints = $3
extendedKeyUsage = ${usage:-serverAuth}
subjectAltName = $4
END
    : > "$work/index"
    # shellcheck disable=SC2086 # several words
    openssl ca -batch -notext -config "$work/config" $2 \
        -startdate "$5" -enddate "$6" -in "$work/csr" -out "$1.pem" 2>/dev/null
}

# As most people make one, with `openssl req -x509`: it says of itself that it is a CA's. See above for why not that way.
self_signed() {
    leaf_of "$1" "-selfsign -keyfile $1.key" CA:TRUE "$2" 20200101000000Z 21200101000000Z
}

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
ca ca "reverse-proxy test CA"
ca stranger "a CA nobody asked"
leaf loopback "IP:127.0.0.1,IP:::1,DNS:localhost" 20200101000000Z 21200101000000Z
leaf named "DNS:backend.test" 20200101000000Z 21200101000000Z
leaf expired "IP:127.0.0.1" 20200101000000Z 20210101000000Z
self_signed self-signed "IP:127.0.0.1,DNS:localhost"

# Those of the tests of TLS towards clients.
leaf shop "DNS:shop.test,DNS:*.shop.test,DNS:localhost" 20200101000000Z 21200101000000Z
leaf shop-renewed "DNS:shop.test,DNS:*.shop.test" 20200101000000Z 21200101000000Z
algorithm=rsa:2048 leaf other "DNS:other.test" 20200101000000Z 21200101000000Z
usage=clientAuth subject=client leaf client "DNS:client.test" 20200101000000Z 21200101000000Z
# It is its own CA, and has everything in its name that has to be escaped.
subject='#1 "a,b"/O=M\303\274ller \\+ S\303\266hne; \r\nX-Admin: yes/C=DE'
subject=$(printf "$subject") usage=clientAuth \
    leaf_of odd "-utf8 -preserveDN -selfsign -keyfile odd.key" CA:FALSE "DNS:odd.test" 20200101000000Z 21200101000000Z
usage=clientAuth subject=late \
    leaf_of client-expired "-selfsign -keyfile client-expired.key" CA:FALSE "DNS:late.test" 20200101000000Z 20210101000000Z
openssl ec -in shop.key -out shop.sec1.key 2>/dev/null
openssl rsa -in other.key -traditional -out other.pkcs1.key 2>/dev/null
openssl pkey -in shop.key -aes256 -passout pass:test -out shop.encrypted.key
# One that an intermediate CA vouches for, in the right order and in the wrong one.
subject=between leaf_of between "-cert ca.pem -keyfile ca.key" CA:TRUE "DNS:between.test" 20200101000000Z 21200101000000Z
leaf_of chained "-cert between.pem -keyfile between.key" CA:FALSE "DNS:chained.test" 20200101000000Z 21200101000000Z
cat between.pem chained.pem > chained.reversed.pem
cat chained.pem ca.pem > chained.gap.pem
cat between.pem >> chained.pem
rm between.key between.pem
rm ca.key stranger.key
