#include "textflag.h"

// func start(args *cloneArgs, size uintptr, calls *call, n uintptr) uintptr
//
// The child's stack is that of the parent, who goes on: the child does without.
TEXT ·start(SB), NOSPLIT, $0-40
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ calls+16(FP), R12
	MOVQ n+24(FP), R13
	MOVQ $435, AX // clone3
	SYSCALL
	TESTQ AX, AX
	JEQ child
	MOVQ AX, ret+32(FP)
	RET

child:
	TESTQ R13, R13
	JEQ end
	MOVQ 0(R12), AX
	MOVQ 8(R12), DI
	MOVQ 16(R12), SI
	MOVQ 24(R12), DX
	MOVQ 32(R12), R10
	MOVQ 40(R12), R8
	MOVQ 48(R12), R9
	SYSCALL // which changes AX, CX and R11 alone
	MOVQ AX, 56(R12)
	CMPQ AX, $-4095
	JCS next // below: no error
	CMPQ 64(R12), $0
	JEQ end
next:
	ADDQ $72, R12
	DECQ R13
	JMP child

end:
	MOVQ $127, DI
	MOVQ $231, AX // exit_group
	SYSCALL
	JMP end
