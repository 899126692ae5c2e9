complete -c reverse-proxy -s c -l config -d 'the configuration file' -r -F
complete -c reverse-proxy -l check -d 'say whether the configuration is valid: one line on stdout if it is, one line for each error and each warning on stderr'
complete -c reverse-proxy -l strict -d 'with --check: warnings count as errors'
complete -c reverse-proxy -l demo -d 'for a first look; cannot be combined with --config or --check'
complete -c reverse-proxy -s h -l help -d 'print this help'
complete -c reverse-proxy -s V -l version -d 'print the version, the commit it was built from and its cargo features'
