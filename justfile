# The benchmark against other proxies (benches/run): just bench, just bench --quick, just bench --only small-64
bench *ARGUMENTS:
    benches/run {{ ARGUMENTS }}
