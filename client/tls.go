package client

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"

	"github.com/docker/go-connections/tlsconfig"
	mobyclient "github.com/moby/moby/client"
)

// TLS names the files for an encrypted connection. Empty fields are left out:
// without CAFile the system's roots are used, without CertFile and KeyFile the
// client does not identify itself.
type TLS struct {
	CAFile, CertFile, KeyFile string
	// SkipVerify accepts any certificate of the daemon, as --tls without
	// --tlsverify does.
	SkipVerify bool
}

// TLSFromEnv returns what DOCKER_TLS_VERIFY and DOCKER_TLS ask for, nil when
// neither is set. Files are taken from [CertDir] where they exist.
func TLSFromEnv() *TLS {
	verify := os.Getenv(mobyclient.EnvTLSVerify) != ""
	if !verify && os.Getenv("DOCKER_TLS") == "" {
		return nil
	}
	return TLSFromDir(CertDir(), verify)
}

// TLSFromDir returns ca.pem, cert.pem and key.pem of dir. A certificate and key
// that do not exist are left out; a missing ca.pem is an error later if verify
// is set, since trust must not widen by accident.
func TLSFromDir(dir string, verify bool) *TLS {
	t := &TLS{SkipVerify: !verify}
	if verify || exists(filepath.Join(dir, "ca.pem")) {
		t.CAFile = filepath.Join(dir, "ca.pem")
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if exists(cert) && exists(key) {
		t.CertFile, t.KeyFile = cert, key
	}
	return t
}

// CertDir is the directory of the user's certificates: DOCKER_CERT_PATH,
// DOCKER_CONFIG, or .docker in the home directory.
func CertDir() string {
	for _, name := range []string{mobyclient.EnvOverrideCertPath, "DOCKER_CONFIG"} {
		if dir := os.Getenv(name); dir != "" {
			return dir
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".docker"
	}
	return filepath.Join(home, ".docker")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (t *TLS) config() (*tls.Config, error) {
	config, err := tlsconfig.Client(tlsconfig.Options{
		CAFile:             t.CAFile,
		CertFile:           t.CertFile,
		KeyFile:            t.KeyFile,
		InsecureSkipVerify: t.SkipVerify,
		ExclusiveRootPools: true,
		MinVersion:         tls.VersionTLS12,
	})
	if err != nil {
		return nil, fmt.Errorf("configure TLS: %w", err)
	}
	return config, nil
}
