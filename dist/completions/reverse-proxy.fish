complete -c reverse-proxy -s c -l config -d 'the configuration file' -r -F
complete -c reverse-proxy -l explain -d 'say which route takes a request, written as \'GET http://shop.example/cart\', and why the others do not; what the backend gets; and each limit that applies, and where it is from' -r
complete -c reverse-proxy -s H -l header -d 'with --explain: a header field of the request, written as \'Name: value\'; as often as there are any' -r
complete -c reverse-proxy -l from -d 'with --explain: where the connection comes from; an address, or unix: for a Unix-domain socket (default: 127.0.0.1)' -r
complete -c reverse-proxy -l check -d 'say whether the configuration is valid: one line on stdout if it is, one line for each error and each warning on stderr'
complete -c reverse-proxy -l strict -d 'with --check: warnings count as errors'
complete -c reverse-proxy -l json -d 'with --explain: in JSON'
complete -c reverse-proxy -l health -d 'ask the proxy that runs with this configuration, by its [admin] listener, whether it is well'
complete -c reverse-proxy -l demo -d 'for a first look; cannot be combined with --config or --check'
complete -c reverse-proxy -s h -l help -d 'print this help'
complete -c reverse-proxy -s V -l version -d 'print the version, the commit it was built from and its cargo features'
