package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/problem"
)

const createBody = `{"Image":"busybox","Cmd":["true"],"HostConfig":{}}`

// upgradeHead is the head of a request that takes its connection over.
func upgradeHead(path, body string) string {
	return "POST " + path + " HTTP/1.1\nHost: d\nConnection: Upgrade\nUpgrade: tcp\nContent-Type: application/json\nContent-Length: " +
		strconv.Itoa(len(body)) + "\n"
}

// readEnd splits what follows an upgrade into output and the payload of the
// last frame.
func readEnd(t *testing.T, r io.Reader) (output string, end *api.End) {
	t.Helper()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for len(rest) >= frameHead {
		length := int(rest[7]) + int(rest[6])<<8
		payload := rest[frameHead:min(len(rest), frameHead+length)]
		if rest[0] == api.EndFrame {
			end = new(api.End)
			if err := json.Unmarshal([]byte(payload), end); err != nil {
				t.Fatal(err)
			}
			if len(rest) != frameHead+length {
				t.Errorf("%q follows the end", rest[frameHead+length:])
			}
			return output, end
		}
		output, rest = output+payload, rest[frameHead+len(payload):]
	}
	return output, nil
}

func TestRun(t *testing.T) {
	failed := problem.WithHint(errdefs.ErrInvalidArgument.WithMessage("exec failed"), "try another")
	for _, tt := range []struct {
		name   string
		write  []string
		end    engine.RunEnd
		err    error
		output string
		want   *api.End
	}{
		{"output and code", []string{"\x01\x00\x00\x00\x00\x00\x00\x02hi"}, engine.RunEnd{Exit: container.WaitResponse{StatusCode: 7}}, nil, "hi", &api.End{ExitCode: 7}},
		{"frames in pieces", []string{"\x01\x00\x00\x00\x00", "\x00\x00\x02h", "i\x02\x00\x00\x00\x00\x00\x00\x01!"}, engine.RunEnd{}, nil, "hi!", &api.End{}},
		{"output that breaks off", []string{"\x01\x00\x00\x00\x00\x00\x00\x05hi"}, engine.RunEnd{}, nil, "hi", nil},
		{"detached", nil, engine.RunEnd{Detached: true}, nil, "", &api.End{Detached: true}},
		{"wait that failed", nil, engine.RunEnd{Exit: container.WaitResponse{Error: &container.WaitExitError{Message: "dead"}}}, nil, "", &api.End{WaitError: "dead"}},
		{"start that failed", nil, engine.RunEnd{Start: failed}, nil, "", &api.End{Refused: &api.Refused{Error: api.Error{Message: "exec failed", Hint: "try another"}, Status: 400}}},
		{"daemon that ends", nil, engine.RunEnd{}, errors.New("shutting down"), "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{run: func(_ context.Context, o engine.RunOptions, made func(container.CreateResponse) (engine.Stream, error)) (engine.RunEnd, error) {
				if o.Name != "web" || !o.Attach.Stdout || o.Attach.Stdin || o.Request.HostConfig.NetworkMode != "bridge" {
					t.Errorf("options %+v", o)
				}
				s, err := made(container.CreateResponse{ID: fakeID, Warnings: []string{"naïve"}})
				if err != nil {
					t.Error(err)
				}
				for _, text := range tt.write {
					if _, err := io.WriteString(s, text); err != nil {
						t.Error(err)
					}
				}
				_ = s.CloseWrite()
				return tt.end, tt.err
			}}
			d := serve(t, f)
			_, r := d.dial(t, upgradeHead("/porthole/containers/run?name=web&stdout=1", createBody), createBody)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			var created container.CreateResponse
			if err := json.Unmarshal([]byte(resp.Header.Get(api.CreatedHeader)), &created); err != nil || resp.StatusCode != 101 || created.ID != fakeID || created.Warnings[0] != "naïve" {
				t.Errorf("%s %v %+v", resp.Status, err, created)
			}
			output, end := readEnd(t, r)
			if diff := cmp.Diff(tt.want, end); diff != "" || output != tt.output {
				t.Errorf("output %q, end (-want +got):\n%s", output, diff)
			}
		})
	}
}

func TestRunRefused(t *testing.T) {
	d := serve(t, &fake{})
	for path, want := range map[string]string{
		`{"Image":"missing"}`:         `404 {"message":"No such image: missing:latest"`,
		`{"Image":"box","Tty":true}`:  `400 {"message":"a terminal needs`,
		`{"Image":"box","Tty":"yes"}`: `400 {"message":"invalid JSON`,
	} {
		resp, body := d.ask(t, post, "/porthole/containers/run?stdout=1", path)
		if got := strconv.Itoa(resp.StatusCode) + " " + body; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestRunWithoutStreams(t *testing.T) {
	for _, tt := range []struct {
		end  engine.RunEnd
		want string
	}{
		{engine.RunEnd{}, `{"Id":"` + fakeID + `","Warnings":[]}`},
		{engine.RunEnd{Start: errdefs.ErrConflict.WithMessage("no")}, `{"Id":"` + fakeID + `","Warnings":[],"Refused":{"message":"no","status":409}}`},
	} {
		d := serve(t, &fake{run: func(_ context.Context, _ engine.RunOptions, made func(container.CreateResponse) (engine.Stream, error)) (engine.RunEnd, error) {
			_, err := made(container.CreateResponse{ID: fakeID})
			return tt.end, err
		}})
		resp, body := d.ask(t, post, "/porthole/containers/run", createBody)
		if resp.StatusCode != 201 || body != tt.want+"\n" {
			t.Errorf("%s %s", resp.Status, body)
		}
	}
}

func TestExecInOneRequest(t *testing.T) {
	code := 3
	f := &fake{code: &code, exec: func(_ context.Context, _ engine.ExecStartOptions, open func() (engine.Stream, error)) error {
		s, err := open()
		if err != nil {
			return err
		}
		defer s.Close()
		in, err := io.ReadAll(s)
		if err != nil {
			return err
		}
		_, err = s.Write(append([]byte{1, 0, 0, 0, 0, 0, 0, byte(len(in))}, in...))
		return err
	}}
	d := serve(t, f)
	body := `{"Cmd":["cat"],"AttachStdin":true}`
	conn, r := d.dial(t, upgradeHead("/porthole/containers/web/exec", body), body)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%+v %v", resp, err)
	}
	if _, err := io.WriteString(conn, "typed"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	output, end := readEnd(t, r)
	if diff := cmp.Diff(&api.End{ExitCode: 3, Hint: "look elsewhere"}, end); diff != "" || output != "typed" {
		t.Errorf("output %q, end (-want +got):\n%s", output, diff)
	}
	if resp, body := d.ask(t, post, "/porthole/containers/nope/exec", `{"Cmd":["x"]}`); resp.StatusCode != 404 {
		t.Errorf("%s %s", resp.Status, body)
	}
	if resp, body := d.ask(t, post, "/porthole/containers/web/exec", `{"Cmd":["x"],"Tty":true}`); resp.StatusCode != 400 {
		t.Errorf("%s %s", resp.Status, body)
	}
}
