package build

import (
	"fmt"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/archutil"
)

// runnable tells whether this machine runs programs for a platform, by itself or
// by an emulator that is registered with the kernel (binfmt_misc). The error is
// for people: without it a step would end with "exec format error".
func runnable(p *pb.Platform) error {
	if p == nil {
		return nil
	}
	want := platforms.Normalize(p.Spec())
	if platforms.Default().Match(want) {
		return nil
	}
	for _, can := range archutil.SupportedPlatforms(false) {
		if platforms.NewMatcher(can).Match(want) {
			return nil
		}
	}
	return fmt.Errorf("this machine does not run programs for %s, so RUN cannot be built for it: register an emulator, such as that of qemu-user-static, with binfmt_misc",
		platforms.Format(want))
}
