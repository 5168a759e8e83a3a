package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Become has the rest done by another program of ours, with the arguments of this
// one: the one beside this program, or else on the path. It returns only if that
// cannot be executed.
func Become(a *App, program string) error {
	path, err := findProgram(program)
	if err != nil {
		return err
	}
	a.Close()
	args := append([]string{os.Args[0]}, os.Args[1:]...)
	return fmt.Errorf("execute %s: %w", path, become(path, args))
}

func findProgram(program string) (string, error) {
	if self, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		beside := filepath.Join(filepath.Dir(self), program)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("this needs the program %s, which is neither beside this one nor on the path", program)
	}
	return path, nil
}
