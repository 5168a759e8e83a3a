package system

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/docker/cli/cli/config/types"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/portholehq/porthole/internal/cli/command"
)

// hubServer is the key under which credentials for Docker Hub are kept.
const hubServer = "https://index.docker.io/v1/"

type loginOptions struct {
	user, password string
	passwordStdin  bool
}

// NewLogin returns "login".
func NewLogin(a *command.App) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] [SERVER]",
		Short: "Authenticate to a registry",
		Long:  "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
		Args:  command.MaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server := hubServer
			if len(args) > 0 && args[0] != "docker.io" {
				server = args[0]
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			return o.run(cmd.Context(), a, server)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringVarP(&o.user, "username", "u", "", "Username")
	set.StringVarP(&o.password, "password", "p", "", "Password or Personal Access Token (PAT)")
	set.BoolVar(&o.passwordStdin, "password-stdin", false, "Take the Password or Personal Access Token (PAT) from stdin")
	return command.Top(cmd, 8)
}

func (o *loginOptions) check(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	if o.password == "-" {
		o.password, o.passwordStdin = "", true
	} else if o.passwordStdin && changed("password") {
		return errors.New("conflicting options: cannot specify both --password and --password-stdin")
	} else if changed("password") && o.password == "" {
		return errors.New("password is empty")
	}
	if o.passwordStdin && !changed("username") {
		return errors.New("the --password-stdin option requires --username to be set")
	}
	if changed("username") && o.user == "" {
		return errors.New("username is empty")
	}
	return nil
}

func (o *loginOptions) run(ctx context.Context, a *command.App, server string) error {
	if o.password != "" {
		_, _ = fmt.Fprintln(a.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	}
	if o.passwordStdin {
		if err := o.readPassword(a.In); err != nil {
			return err
		}
	}
	if o.user == "" && o.password == "" {
		done, err := loginStored(ctx, a, server)
		if done || err != nil {
			return err
		}
	}
	if (o.user == "" || o.password == "") && !a.InIsTerminal() {
		return errors.New("error: cannot perform an interactive login from a non-TTY device")
	}
	if err := o.ask(a); err != nil {
		return err
	}
	return login(ctx, a, types.AuthConfig{Username: o.user, Password: o.password, ServerAddress: server})
}

// readPassword reads a secret of any form; one line ending at its end is not
// part of it.
func (o *loginOptions) readPassword(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	o.password = string(text)
	for _, eol := range []string{"\r\n", "\n", "\r"} {
		if cut, ok := strings.CutSuffix(o.password, eol); ok {
			o.password = cut
			break
		}
	}
	if strings.TrimSpace(o.password) == "" {
		return errors.New("password is empty")
	}
	return nil
}

// ask asks for what was not given.
func (o *loginOptions) ask(a *command.App) error {
	if o.user == "" {
		_, _ = fmt.Fprint(a.Out, "Username: ")
		line, err := bufio.NewReader(a.In).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if o.user = strings.TrimSpace(line); o.user == "" {
			return errors.New("username is empty")
		}
	}
	if o.password != "" {
		return nil
	}
	_, _ = fmt.Fprint(a.Out, "Password: ")
	secret, err := term.ReadPassword(int(os.Stdin.Fd()))
	_, _ = fmt.Fprintln(a.Out)
	if err != nil {
		return err
	}
	if o.password = string(secret); strings.TrimSpace(o.password) == "" {
		return errors.New("password is empty")
	}
	return nil
}

// loginStored tries the credentials that are stored already.
func loginStored(ctx context.Context, a *command.App, server string) (done bool, err error) {
	key := server
	if server != hubServer {
		key = hostname(server)
	}
	auth, err := a.Config().GetAuthConfig(key)
	if err != nil || auth.Username == "" || auth.Password == "" {
		return false, err
	}
	auth.ServerAddress = server
	_, _ = fmt.Fprintf(a.Err, "Authenticating with existing credentials... [Username: %s]\n", auth.Username)
	if err := login(ctx, a, auth); err != nil {
		_, _ = fmt.Fprintln(a.Err, "Login did not succeed, error:", command.Message(err))
		return false, nil
	}
	return true, nil
}

// login lets the daemon try the credentials and stores them when they are
// good. A registry may give a token to be kept in the place of the password.
func login(ctx context.Context, a *command.App, auth types.AuthConfig) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.RegistryLogin(ctx, mobyclient.RegistryLoginOptions{
		Username: auth.Username, Password: auth.Password, ServerAddress: auth.ServerAddress,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	})
	if err != nil {
		return err
	}
	if res.Auth.IdentityToken != "" {
		auth.Password, auth.IdentityToken = "", res.Auth.IdentityToken
	}
	if err := store(a, auth); err != nil {
		return fmt.Errorf("error saving credentials: %w", err)
	}
	if res.Auth.Status != "" {
		_, _ = fmt.Fprintln(a.Out, a.Harmless(res.Auth.Status))
	}
	return nil
}

func store(a *command.App, auth types.AuthConfig) error {
	if auth.ServerAddress != hubServer {
		auth.ServerAddress = hostname(auth.ServerAddress)
	}
	return a.Config().GetCredentialsStore(auth.ServerAddress).Store(auth)
}

// hostname strips the scheme and path of a registry's address.
func hostname(server string) string {
	if _, rest, ok := strings.Cut(server, "://"); ok {
		server = rest
	}
	host, _, _ := strings.Cut(server, "/")
	return host
}

// NewLogout returns "logout".
func NewLogout(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logout [SERVER]",
		Short: "Log out from a registry",
		Long:  "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
		Args:  command.MaxArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			server := hubServer
			if len(args) > 0 {
				server = args[0]
			}
			logout(a, server)
			return nil
		},
		DisableFlagsInUseLine: true,
	}
	return command.Top(cmd, 9)
}

// logout removes the credentials of a registry under all names that clients
// have kept them by.
func logout(a *command.App, server string) {
	names, shown := []string{server}, server
	if server != hubServer {
		shown = hostname(server)
		names = append(names, shown, "http://"+shown, "https://"+shown)
	}
	_, _ = fmt.Fprintln(a.Out, "Removing login credentials for", shown)
	var failures []string
	for _, name := range names {
		if err := a.Config().GetCredentialsStore(name).Erase(name); err != nil {
			failures = append(failures, name+": "+err.Error())
		}
	}
	if len(failures) == len(names) {
		_, _ = fmt.Fprintln(a.Err, "WARNING: could not erase credentials:\n"+strings.Join(failures, "\n"))
	}
}
