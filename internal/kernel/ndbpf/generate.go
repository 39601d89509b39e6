package ndbpf

// The objects are committed, so that building needs no clang; `make generate`
// makes them anew.
//go:generate go tool bpf2go -go-package ndbpf -target bpfel,bpfeb -cc clang -strip llvm-strip -type config -type prefix program ndproxy.c -- -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu -O2 -g -Wall -Werror -mcpu=v2
