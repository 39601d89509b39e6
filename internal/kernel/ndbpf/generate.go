package ndbpf

// The objects are committed, so that building needs no clang; `make generate`
// makes them anew.
//go:generate go tool bpf2go -go-package ndbpf -target bpfel,bpfeb -cc clang -strip llvm-strip -type config -type prefix program ndproxy.c -- -O2 -g -Wall -Werror -mcpu=v2
