package ide

import (
	"encoding/json"
	"strings"
	"testing"
)

func listens(port uint16, line string) listener {
	return listener{port: port, pid: 1, args: strings.Fields(line)}
}

func TestServerOf(t *testing.T) {
	node := listens(9229, "node --inspect=127.0.0.1:9229 /app/server.js")
	web := listens(8080, "node --inspect=127.0.0.1:9229 /app/server.js")
	tests := []struct {
		name string
		list []listener
		port uint16
		kind string
		want string // kinds and ports, in their order
	}{
		{"nothing", nil, 0, "", ""},
		{"no debugger", []listener{listens(80, "nginx: master process"), listens(8080, "node server.js")}, 0, "", ""},
		{"node, whose own port comes first", []listener{web, node}, 0, "", "node 9229, node 8080"},
		{"node that a signal has told to", []listener{listens(9229, "node server.js")}, 0, "", "node 9229"},
		{"delve", []listener{listens(2345, "/go/bin/dlv exec --headless --listen=:2345 /app/x")}, 0, "", "go 2345"},
		{"debugpy", []listener{listens(5678, "python3 -m debugpy --listen 5678 app.py")}, 0, "", "python 5678"},
		{"debugpy's adapter", []listener{listens(5678, "/usr/bin/python3 /usr/lib/python3/site-packages/debugpy/adapter --port 1")}, 0, "", "python 5678"},
		{"jdwp", []listener{listens(5005, "java -agentlib:jdwp=transport=dt_socket,server=y,address=*:5005 -jar x.jar")}, 0, "", "java 5005"},
		{"gdbserver", []listener{listens(1234, "gdbserver :1234 /app/x")}, 0, "", "gdb 1234"},
		{"two", []listener{node, listens(5678, "python -m debugpy --listen 5678 x.py")}, 0, "", "node 9229, python 5678"},
		{"of a kind", []listener{node, listens(5678, "python -m debugpy --listen 5678 x.py")}, 0, "python", "python 5678"},
		{"a port that does not look like one", []listener{listens(80, "thing")}, 80, "", ""},
		{"the same, if it is said what it is", []listener{listens(80, "thing")}, 80, "gdb", "gdb 80"},
		{"a command that is not known, on a port that is", []listener{{port: 5005}}, 0, "", "java 5005"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, s := range serverOf(c.list, c.port, c.kind) {
				got = append(got, s.kind+" "+hostPort("", s.port)[1:])
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
}

// What editors are told names the host's folder for the container's.
func TestLaunch(t *testing.T) {
	folders := []folder{{"/app", "/home/me/app"}, {"/lib2", "/home/me/lib"}}
	for kind, want := range map[string]string{
		"go":     `{"host":"127.0.0.1","mode":"remote","name":"attach to web","port":1,"request":"attach","substitutePath":[{"from":"/home/me/app","to":"/app"},{"from":"/home/me/lib","to":"/lib2"}],"type":"go"}`,
		"node":   `{"address":"127.0.0.1","localRoot":"/home/me/app","name":"attach to web","port":1,"remoteRoot":"/app","request":"attach","type":"node"}`,
		"python": `{"connect":{"host":"127.0.0.1","port":1},"name":"attach to web","pathMappings":[{"localRoot":"/home/me/app","remoteRoot":"/app"},{"localRoot":"/home/me/lib","remoteRoot":"/lib2"}],"request":"attach","type":"debugpy"}`,
		"java":   `{"hostName":"127.0.0.1","name":"attach to web","port":1,"request":"attach","type":"java"}`,
		"gdb":    `{"MIMode":"gdb","miDebuggerServerAddress":"127.0.0.1:1","name":"attach to web","program":"${workspaceFolder}/PROGRAM","request":"launch","sourceFileMap":{"/app":"/home/me/app","/lib2":"/home/me/lib"},"type":"cppdbg"}`,
	} {
		got, err := json.Marshal(launch("web", kind, "127.0.0.1", 1, folders))
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", kind, err, got, want)
		}
	}
}
