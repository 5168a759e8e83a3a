package cli

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

type object = map[string]any

const (
	webID    = "3f1faf796ff62e08e679f07286c6f927ba2871b9e87438a01c89a049bf02e6f5"
	pausedID = "a3c7d243cc0c7a8c0fb35888b143f22d99d3126aede7e7e1d82e7fb4f6509c88"
	oldID    = "7c1f51980808ae1785ab18d6788bc2e3b5a95431fd88e44d096d13314a91724a"
	newID    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	imageID  = "sha256:b456bc6dfe435e0c8f559f34f76245b5da6d595bd2ee915a241cd0ce4bdfda48"
	otherID  = "sha256:24a8424ea241c3772975cfaaf7a8dfdf7b387fb42c3d74d6788ff06741d82c67"
)

// ago returns the time since which d has passed, for texts as "2 hours ago".
// Half a minute more keeps it there while the test runs.
func ago(d time.Duration) time.Time { return time.Now().Add(-d - 30*time.Second) }

func port(private, public int, kind, ip string) object {
	p := object{"PrivatePort": private, "Type": kind}
	if public != 0 {
		p["PublicPort"], p["IP"] = public, ip
	}
	return p
}

// containerList is what /containers/json answers, the newest first.
func containerList() []object {
	return []object{
		{
			"Id": newID, "Names": []string{"/fresh"}, "Image": "busybox", "ImageID": imageID,
			"Command": "sh -c 'a very long command line that does not fit'", "Created": ago(10 * time.Minute).Unix(),
			"Ports": []object{}, "Labels": object{}, "State": "created", "Status": "Created",
			"HostConfig": object{"NetworkMode": "none"}, "NetworkSettings": object{"Networks": object{"none": object{}}}, "Mounts": []object{},
		},
		{
			"Id": webID, "Names": []string{"/web", "/web2/alias"}, "Image": "nginx:1.27", "ImageID": otherID,
			"Command": "nginx -g 'daemon off;'", "Created": ago(2 * time.Hour).Unix(),
			"Ports": []object{
				port(80, 8080, "tcp", "0.0.0.0"), port(81, 8081, "tcp", "0.0.0.0"), port(80, 8080, "tcp", "::"),
				port(443, 0, "tcp", ""), port(53, 53, "udp", "127.0.0.1"), port(9000, 0, "tcp", ""), port(9001, 0, "tcp", ""),
			},
			"Labels": object{"b": "2", "a": "1", "com.example/x": "y=z"}, "State": "running", "Status": "Up 2 hours (healthy)",
			"SizeRw": 2048, "SizeRootFs": 142000000,
			"HostConfig": object{"NetworkMode": "bridge"}, "NetworkSettings": object{"Networks": object{"front": object{}}},
			"Mounts": []object{
				{"Type": "volume", "Name": "data", "Source": "", "Destination": "/data", "Driver": "local"},
				{"Type": "bind", "Source": "/a/long/path/on/the/host", "Destination": "/b"},
			},
		},
		{
			"Id": pausedID, "Names": []string{"/paused"}, "Image": imageID, "ImageID": imageID, "Command": "sleep 1000",
			"Created": ago(30 * time.Hour).Unix(), "Ports": []object{}, "Labels": object{}, "State": "paused", "Status": "Up 30 hours (Paused)",
			"HostConfig": object{"NetworkMode": "host"}, "NetworkSettings": object{"Networks": object{"host": object{}}}, "Mounts": []object{},
		},
		{
			"Id": oldID, "Names": []string{"/old"}, "Image": "busybox:latest", "ImageID": imageID, "Command": "false",
			"Created": ago(100 * 24 * time.Hour).Unix(), "Ports": []object{}, "Labels": nil, "State": "exited", "Status": "Exited (1) 3 months ago",
			"HostConfig": object{"NetworkMode": "default"}, "NetworkSettings": object{"Networks": object{}}, "Mounts": []object{},
		},
	}
}

// webInspect is the beginning of what the daemon says of "web".
func webInspect() object {
	return object{
		"Id": webID, "Created": "2026-01-02T03:04:05.678901234Z", "Path": "nginx", "Args": []string{"-g", "daemon off;"},
		"State": object{
			"Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false,
			"Pid": 4242, "ExitCode": 0, "Error": "", "StartedAt": "2026-01-02T03:04:06.1Z", "FinishedAt": "0001-01-01T00:00:00Z",
			"Health": object{"Status": "healthy", "FailingStreak": 0, "Log": []object{}},
		},
		"Image": otherID, "Name": "/web", "RestartCount": 2, "Driver": "overlayfs", "Platform": "linux", "ExecIDs": nil,
		"HostConfig": object{
			"Binds": []string{"/a:/b:ro"}, "NetworkMode": "bridge", "Memory": 104857600, "NanoCpus": 1500000000,
			"PortBindings":  object{"80/tcp": []object{{"HostIp": "", "HostPort": "8080"}}},
			"RestartPolicy": object{"Name": "always", "MaximumRetryCount": 0}, "Dns": []string{"1.1.1.1"}, "AutoRemove": false,
		},
		"Mounts": []object{{"Type": "bind", "Source": "/a", "Destination": "/b", "Mode": "ro", "RW": false, "Propagation": "rprivate"}},
		"Config": object{
			"Hostname": "web", "Env": []string{"PATH=/bin", "A=b"}, "Cmd": []string{"-g", "daemon off;"}, "Image": "nginx:1.27",
			"ExposedPorts": object{"80/tcp": object{}}, "Labels": object{"a": "1", "html": "<b>&"}, "Tty": false, "OpenStdin": false,
		},
		"NetworkSettings": object{
			"Bridge": "", "SandboxID": "51", "SandboxKey": "/run/ns", "IPAddress": "172.17.0.2", "Gateway": "172.17.0.1",
			"Ports": object{
				"80/tcp":  []object{{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}},
				"443/tcp": nil, "53/udp": []object{{"HostIp": "127.0.0.1", "HostPort": "53"}},
			},
			"Networks": object{"bridge": object{
				"IPAMConfig": nil, "NetworkID": "77", "EndpointID": "88", "Gateway": "172.17.0.1", "IPAddress": "172.17.0.2", "IPPrefixLen": 16,
				"IPv6Gateway": "", "GlobalIPv6Address": "", "MacAddress": "02:42:ac:11:00:02", "DNSNames": nil,
			}},
		},
		"FutureField": object{"X": 12345678901234567},
	}
}

func imageList() []object {
	return []object{
		{
			"Id": otherID, "ParentId": "", "RepoTags": []string{"registry.example.com:5000/team/nginx:1.27"},
			"RepoDigests": []string{"registry.example.com:5000/team/nginx@sha256:aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999"},
			"Created":     ago(3 * 24 * time.Hour).Unix(), "Size": 142345678, "SharedSize": -1, "Containers": -1, "Labels": nil,
		},
		{
			"Id": imageID, "ParentId": "", "RepoTags": []string{"busybox:latest"}, "RepoDigests": []string{},
			"Created": ago(45 * time.Hour).Unix(), "Size": 1983022, "SharedSize": -1, "Containers": -1, "Labels": nil,
		},
		{
			"Id": "sha256:" + oldID, "ParentId": "", "RepoTags": []string{}, "RepoDigests": []string{},
			"Created": ago(800 * 24 * time.Hour).Unix(), "Size": 5, "SharedSize": -1, "Containers": -1, "Labels": nil,
		},
	}
}

func networkList() []object {
	list := []object{}
	for _, n := range [][3]string{{"net10", "bridge", "c1"}, {"bridge", "bridge", "a1"}, {"net2", "bridge", "d1"}, {"none", "null", "b1"}, {"host", "host", "e1"}} {
		list = append(list, object{
			"Name": n[0], "Id": n[2] + oldID[2:], "Created": "2026-01-02T03:04:05.678901234Z", "Scope": "local", "Driver": n[1],
			"EnableIPv4": true, "EnableIPv6": n[0] == "net2", "Internal": n[0] == "net10", "Labels": object{"a": n[0]},
			"IPAM": object{"Driver": "default", "Options": nil, "Config": []object{{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}}},
		})
	}
	return list
}

func volumeList() []object {
	list := []object{}
	for _, name := range []string{"vol10", "vol2", "data"} {
		list = append(list, object{
			"Name": name, "Driver": "local", "Mountpoint": "/var/lib/x/volumes/" + name + "/_data", "Labels": object{"a": "b"},
			"Scope": "local", "Options": nil, "CreatedAt": "2026-01-02T03:04:05Z",
		})
	}
	return list
}

// fixtures returns a mux that answers for a daemon with the objects above.
// The container "stuck" refuses whatever is asked of it.
func fixtures() *http.ServeMux {
	mux := http.NewServeMux()
	containerFixtures(mux)
	imageFixtures(mux)
	objectFixtures(mux)
	systemFixtures(mux)
	return mux
}

func noContainer(w http.ResponseWriter, name string) bool {
	if name == "web" || name == newID || name == webID || name == "old" || name == "paused" {
		return false
	}
	if name == "stuck" {
		refuse(w, http.StatusConflict, "container stuck is not running")
		return true
	}
	refuse(w, http.StatusNotFound, "No such container: "+name)
	return true
}

func containerFixtures(mux *http.ServeMux) {
	mux.HandleFunc("GET /containers/json", func(w http.ResponseWriter, r *http.Request) {
		list := containerList()
		q := r.URL.Query()
		if strings.Contains(q.Get("filters"), "bad") {
			refuse(w, http.StatusBadRequest, "invalid filter 'bad'")
			return
		}
		if q.Get("all") == "" && q.Get("limit") == "" {
			list = list[1:3]
		}
		if q.Get("limit") == "1" {
			list = list[:1]
		}
		if q.Get("size") == "" {
			for _, c := range list {
				delete(c, "SizeRw")
				delete(c, "SizeRootFs")
			}
		}
		answer(w, http.StatusOK, list)
	})
	mux.HandleFunc("GET /containers/{id}/json", func(w http.ResponseWriter, r *http.Request) {
		if noContainer(w, r.PathValue("id")) {
			return
		}
		doc := webInspect()
		if r.PathValue("id") == "old" {
			state := doc["State"].(object)
			state["Running"], state["Status"] = false, "exited"
		}
		if r.URL.Query().Get("size") == "1" {
			doc["SizeRw"], doc["SizeRootFs"] = 10, 20
		}
		answer(w, http.StatusOK, doc)
	})
	for _, verb := range []string{"start", "stop", "kill", "restart", "pause", "unpause", "rename"} {
		mux.HandleFunc("POST /containers/{id}/"+verb, func(w http.ResponseWriter, r *http.Request) {
			if !noContainer(w, r.PathValue("id")) {
				w.WriteHeader(http.StatusNoContent)
			}
		})
	}
	mux.HandleFunc("DELETE /containers/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !noContainer(w, r.PathValue("id")) {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.HandleFunc("POST /containers/{id}/wait", func(w http.ResponseWriter, r *http.Request) {
		if !noContainer(w, r.PathValue("id")) {
			answer(w, http.StatusOK, object{"StatusCode": 137})
		}
	})
	mux.HandleFunc("POST /containers/{id}/update", func(w http.ResponseWriter, r *http.Request) {
		if !noContainer(w, r.PathValue("id")) {
			answer(w, http.StatusOK, object{"Warnings": []string{"Your kernel does not support that."}})
		}
	})
	mux.HandleFunc("GET /containers/{id}/top", func(w http.ResponseWriter, r *http.Request) {
		if !noContainer(w, r.PathValue("id")) {
			answer(w, http.StatusOK, object{
				"Titles":    []string{"UID", "PID", "CMD"},
				"Processes": [][]string{{"root", "1", "nginx: master process"}, {"a-user-with-a-very-long-name", "22", "nginx"}},
			})
		}
	})
	mux.HandleFunc("GET /containers/{id}/changes", func(w http.ResponseWriter, r *http.Request) {
		if !noContainer(w, r.PathValue("id")) {
			answer(w, http.StatusOK, []object{{"Kind": 0, "Path": "/etc"}, {"Kind": 1, "Path": "/etc/new"}, {"Kind": 2, "Path": "/gone"}})
		}
	})
	mux.HandleFunc("GET /containers/{id}/logs", webLogs)
	mux.HandleFunc("GET /containers/{id}/stats", webStats)
	mux.HandleFunc("POST /containers/{id}/exec", func(w http.ResponseWriter, r *http.Request) {
		if !noContainer(w, r.PathValue("id")) {
			answer(w, http.StatusCreated, object{"Id": "e1"})
		}
	})
	mux.HandleFunc("POST /containers/create", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Image string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		switch {
		case body.Image == "missing":
			refuse(w, http.StatusNotFound, "No such image: missing:latest")
		case r.URL.Query().Get("name") == "web":
			refuse(w, http.StatusConflict, `Conflict. The container name "/web" is already in use by container "`+webID+`". You have to remove (or rename) that container to be able to reuse that name.`)
		default:
			answer(w, http.StatusCreated, object{"Id": newID, "Warnings": []string{"Published ports are discarded when using host network mode"}})
		}
	})
	mux.HandleFunc("POST /containers/prune", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, object{"ContainersDeleted": []string{oldID, pausedID}, "SpaceReclaimed": 123456789})
	})
}

func webLogs(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("tail") == "0" {
		return
	}
	for n, text := range []string{"out one\n", "err one\n", "out two\n", "no newline"} {
		head := make([]byte, 8)
		head[0] = byte(1 + n%2)
		binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
		_, _ = w.Write(append(head, text...))
	}
}

func webStats(w http.ResponseWriter, r *http.Request) {
	if noContainer(w, r.PathValue("id")) {
		return
	}
	answer(w, http.StatusOK, object{
		"read": time.Now(), "preread": time.Now().Add(-time.Second), "name": "/web", "id": webID, "os_type": "linux",
		"pids_stats":   object{"current": 7},
		"cpu_stats":    object{"cpu_usage": object{"total_usage": 3_500_000_000}, "system_cpu_usage": 20_000_000_000, "online_cpus": 2},
		"precpu_stats": object{"cpu_usage": object{"total_usage": 2_000_000_000}, "system_cpu_usage": 18_000_000_000, "online_cpus": 2},
		"memory_stats": object{"usage": 9_000_000, "limit": 104_857_600, "stats": object{"inactive_file": 1_000_000}},
		"networks":     object{"eth0": object{"rx_bytes": 2480, "tx_bytes": 10}, "eth1": object{"rx_bytes": 20, "tx_bytes": 30}},
		"blkio_stats": object{"io_service_bytes_recursive": []object{
			{"major": 8, "minor": 0, "op": "Read", "value": 1_048_576}, {"major": 8, "minor": 0, "op": "Write", "value": 4096},
		}},
	})
}

func imageFixtures(mux *http.ServeMux) {
	mux.HandleFunc("GET /images/json", func(w http.ResponseWriter, r *http.Request) {
		list := imageList()
		if strings.Contains(r.URL.Query().Get("filters"), "reference") {
			list = list[:0]
		}
		answer(w, http.StatusOK, list)
	})
	missing := func(w http.ResponseWriter, name string) bool {
		if strings.HasPrefix(name, "busybox") {
			return false
		}
		refuse(w, http.StatusNotFound, "No such image: "+name+":latest")
		return true
	}
	mux.HandleFunc("GET /images/{name}/json", func(w http.ResponseWriter, r *http.Request) {
		if !missing(w, r.PathValue("name")) {
			answer(w, http.StatusOK, object{
				"Id": imageID, "RepoTags": []string{"busybox:latest"}, "Created": "2026-01-02T03:04:05Z", "Architecture": "amd64", "Os": "linux",
				"Size": 1983022, "Config": object{"Cmd": []string{"sh"}, "Env": []string{"PATH=/bin"}}, "RootFS": object{"Type": "layers", "Layers": []string{oldID}},
			})
		}
	})
	mux.HandleFunc("GET /images/{name}/history", func(w http.ResponseWriter, r *http.Request) {
		if !missing(w, r.PathValue("name")) {
			answer(w, http.StatusOK, []object{
				{"Id": imageID, "Created": ago(45 * time.Hour).Unix(), "CreatedBy": `/bin/sh -c #(nop)  CMD ["a quite long list of words", "that is cut"]`, "Size": 0, "Comment": "buildkit", "Tags": []string{"busybox:latest"}},
				{"Id": "<missing>", "Created": 0, "CreatedBy": "ADD\tfile", "Size": 1983022, "Comment": ""},
			})
		}
	})
	mux.HandleFunc("DELETE /images/{name}", func(w http.ResponseWriter, r *http.Request) {
		if !missing(w, r.PathValue("name")) {
			answer(w, http.StatusOK, []object{{"Untagged": "busybox:latest"}, {"Deleted": imageID}})
		}
	})
	mux.HandleFunc("POST /images/{name}/tag", func(w http.ResponseWriter, r *http.Request) {
		if !missing(w, r.PathValue("name")) {
			w.WriteHeader(http.StatusCreated)
		}
	})
	mux.HandleFunc("POST /images/load", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"stream":"Loaded image: busybox:latest\n"}`+"\n"+`{"stream":"Loaded image ID: sha256:123\n"}`+"\n")
	})
	mux.HandleFunc("POST /images/create", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.URL.Query().Get("fromImage"), "missing") {
			_, _ = io.WriteString(w, `{"errorDetail":{"message":"no such manifest"},"error":"no such manifest"}`+"\n")
			return
		}
		_, _ = io.WriteString(w, `{"status":"Pulling from library/busybox","id":"latest"}`+"\n"+
			`{"status":"Downloading","progressDetail":{"current":10,"total":100},"progress":"[=> ] 10B/100B","id":"abc"}`+"\n"+
			`{"status":"Pull complete","progressDetail":{},"id":"abc"}`+"\n"+`{"status":"Status: Downloaded newer image for busybox:latest"}`+"\n")
	})
	mux.HandleFunc("POST /images/prune", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, object{"ImagesDeleted": []object{{"Untagged": "a:b"}, {"Deleted": imageID}}, "SpaceReclaimed": 1000})
	})
}

func objectFixtures(mux *http.ServeMux) {
	mux.HandleFunc("GET /networks", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, networkList()) })
	mux.HandleFunc("GET /networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		for _, n := range networkList() {
			if n["Name"] == r.PathValue("id") {
				n["Containers"] = object{webID: object{"Name": "web", "EndpointID": "88", "MacAddress": "", "IPv4Address": "172.17.0.2/16", "IPv6Address": ""}}
				answer(w, http.StatusOK, n)
				return
			}
		}
		refuse(w, http.StatusNotFound, "network "+r.PathValue("id")+" not found")
	})
	mux.HandleFunc("DELETE /networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "bridge" {
			refuse(w, http.StatusForbidden, "bridge is a pre-defined network and cannot be removed")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /networks/create", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusCreated, object{"Id": oldID, "Warning": ""})
	})
	mux.HandleFunc("POST /networks/prune", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, object{"NetworksDeleted": []string{"net2"}})
	})
	mux.HandleFunc("GET /volumes", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, object{"Volumes": volumeList()})
	})
	mux.HandleFunc("GET /volumes/{name}", func(w http.ResponseWriter, r *http.Request) {
		for _, v := range volumeList() {
			if v["Name"] == r.PathValue("name") {
				answer(w, http.StatusOK, v)
				return
			}
		}
		refuse(w, http.StatusNotFound, "get "+r.PathValue("name")+": no such volume")
	})
	mux.HandleFunc("POST /volumes/create", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusCreated, volumeList()[2]) })
	mux.HandleFunc("DELETE /volumes/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") != "data" {
			refuse(w, http.StatusConflict, "remove "+r.PathValue("name")+": volume is in use - ["+webID+"]")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /volumes/prune", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, object{"VolumesDeleted": []string{"vol2"}, "SpaceReclaimed": 42})
	})
}

func systemFixtures(mux *http.ServeMux) {
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, object{
			"ID": "some-id", "Containers": 4, "ContainersRunning": 2, "ContainersPaused": 1, "ContainersStopped": 1, "Images": 3, "Driver": "overlayfs",
			"DriverStatus": [][2]string{{"driver-type", "x"}}, "Plugins": object{"Volume": []string{"local"}, "Network": []string{"bridge", "host"}, "Log": []string{"json-file"}},
			"KernelVersion": "6.1.0", "OperatingSystem": "Debian", "OSType": "linux", "Architecture": "x86_64", "NCPU": 2, "MemTotal": 25278038016,
			"DockerRootDir": "/var/lib/x", "Name": "host", "Labels": []string{"a=b"}, "ServerVersion": "1.0", "LoggingDriver": "json-file",
			"CgroupDriver": "cgroupfs", "CgroupVersion": "2", "Runtimes": object{"runc": object{"path": "runc"}}, "DefaultRuntime": "runc",
			"Swarm": object{"LocalNodeState": "inactive"}, "SecurityOptions": []string{"name=seccomp,profile=builtin", "name=cgroupns"},
			"RegistryConfig": object{"InsecureRegistryCIDRs": []string{"127.0.0.0/8"}, "IndexConfigs": object{}, "Mirrors": []string{"https://mirror/"}},
			"Warnings":       []string{"WARNING: No swap limit support"}, "Debug": true, "NFd": 12, "NGoroutines": 34, "NEventsListener": 1, "SystemTime": "2026-01-02T03:04:05Z",
		})
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, object{
			"Platform": object{"Name": "Test Engine"}, "Version": "1.0", "ApiVersion": "1.50", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64",
			"Components": []object{
				{"Name": "Engine", "Version": "1.0", "Details": object{
					"ApiVersion": "1.50", "MinAPIVersion": "1.24", "GitCommit": "abc", "GoVersion": "go1", "Os": "linux", "Arch": "amd64",
					"BuildTime": "2026-01-02T03:04:05.000000000+00:00", "Experimental": "false",
				}},
				{"Name": "helper", "Version": "2", "Details": object{"GitCommit": "def", "Aspect": "x"}},
			},
		})
	})
	mux.HandleFunc("GET /system/df", func(w http.ResponseWriter, _ *http.Request) {
		images := imageList()
		for n, img := range images {
			img["SharedSize"], img["Containers"] = 0, n
		}
		volumes := volumeList()
		for n, v := range volumes {
			v["UsageData"] = object{"Size": 5000 * n, "RefCount": n}
		}
		containers := containerList()
		containers[0]["SizeRw"] = 100
		answer(w, http.StatusOK, object{"LayersSize": 144_328_705, "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": []object{}})
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, _ *http.Request) {
		for n, action := range []string{"create", "start", "health_status: healthy", "exec_create: sh -c x"} {
			_, _ = fmt.Fprintf(w, `{"Type":"container","Action":%q,"Actor":{"ID":%q,"Attributes":{"name":"web","image":"nginx","a":"1"}},"scope":"local","time":1767323045,"timeNano":17673230456789%05d}`+"\n", action, webID, n)
		}
		_, _ = io.WriteString(w, `{"Type":"network","Action":"prune","Actor":{"ID":"","Attributes":{}},"scope":"local","time":1767323045}`+"\n")
	})
}
