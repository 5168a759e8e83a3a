package calltrace

//go:generate go tool -modfile=../../../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -cflags "-O2 -Wall -Werror" -target amd64,arm64 -type take -type take_list -type sum_key -type sum -type box -no-global-types bpf bpf/calls.c
//go:generate sh -c "sha256sum ../bpf/kernel.h bpf/*.c bpf_*.o >bpf/sums"
