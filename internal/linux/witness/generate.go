package witness

//go:generate go tool -modfile=../../../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -cflags "-O2 -Wall -Werror" -target bpfel -type key -type sent -type deed -no-global-types bpf bpf/witness.c
//go:generate sh -c "sha256sum ../bpf/kernel.h bpf/*.c bpf/*.h bpf_*.o >bpf/sums"
