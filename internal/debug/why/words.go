package why

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/record/death"
)

// Programs say why they give up, each in its own words; the C library, Go,
// Python, Node, Java and busybox have a few each. What is said alone is likely,
// what can be checked is checked.
var (
	saysDenied  = regexp.MustCompile(`(?i)permission denied|\bEACCES\b|operation not permitted|\bEPERM\b`)
	saysRO      = regexp.MustCompile(`(?i)read-only file ?system|\bEROFS\b`)
	saysFull    = regexp.MustCompile(`(?i)no space left on device|\bENOSPC\b|disk quota exceeded`)
	saysFiles   = regexp.MustCompile(`(?i)too many open files|\bEMFILE\b`)
	saysFork    = regexp.MustCompile(`(?i)can(?:'|no)t fork|fork: .*(?:temporarily unavailable|cannot allocate)|fork/exec .*resource temporarily unavailable|pthread_create failed|can't start new thread|unable to create (?:new )?native thread|failed to create new OS thread`)
	saysLibrary = regexp.MustCompile(`error while loading shared libraries: ([^:\s]+):|Error loading shared library ([^:\s]+):`)
	saysInUse   = regexp.MustCompile(`(?i)address (?:already )?in use|\bEADDRINUSE\b`)

	// saysName has the name in its one group that matches.
	saysName = regexp.MustCompile(`bad address '([\w.-]+)|host not found in upstream "([\w.-]+)|(?i:could not resolve host(?:name)?:? )"?([\w.-]+)|lookup ([\w.-]+)(?: on [^:]+:\d+)?: (?:no such host|server misbehaving|.*i/o timeout)|getaddrinfo (?:ENOTFOUND|EAI_AGAIN) ([\w.-]+)|unable to resolve(?: host(?: address)?)? [‘'"]?([\w.-]+)|UnknownHostException: ([\w.-]+)|host(?:name)? [‘'"]?([\w.-]+?)[’'"]? (?:not found|could not be resolved)|could not translate host name "([\w.-]+)"|([\w.-]+): (?:Name or service not known|Temporary failure in name resolution)`)
	// saysNameOnly are those who do not say which.
	saysNameOnly = regexp.MustCompile(`(?i)name or service not known|temporary failure in name resolution|name does not resolve`)
)

// wordRules are in the order in which they count.
var wordRules = []struct {
	says *regexp.Regexp
	rule func(e *evidence, line string) []api.Verdict
}{
	{saysLibrary, missingLibrary},
	{saysName, unresolved},
	{saysNameOnly, unresolved},
	{saysRO, deniedPath},
	{saysFull, diskFull},
	{saysFiles, outOfFiles},
	{saysFork, outOfProcesses},
	{saysDenied, deniedPath},
	{saysInUse, inUse},
}

// byWords goes by what it has said before it ended by itself with a code.
func byWords(e *evidence) []api.Verdict {
	if e.death.Cause != death.Failed {
		return nil
	}
	return e.matchWords(e.lines)
}

// recentWords is how old a line of a running container may be to tell of now.
const recentWords = time.Minute

// liveWords goes by what a running container has just said.
func liveWords(e *evidence) []api.Verdict {
	var recent []death.Line
	for _, l := range e.lines {
		if time.Since(l.Time) < recentWords {
			recent = append(recent, l)
		}
	}
	return e.matchWords(recent)
}

// maxWords are the lines that are looked at, from the last on.
const maxWords = 20

func (e *evidence) matchWords(lines []death.Line) []api.Verdict {
	lines = lines[max(0, len(lines)-maxWords):]
	for _, w := range wordRules {
		for i := len(lines) - 1; i >= 0; i-- {
			text := strings.TrimSpace(string(lines[i].Text))
			if !w.says.MatchString(text) {
				continue
			}
			if v := w.rule(e, text); len(v) > 0 {
				v[0].Evidence = append([]string{fmt.Sprintf("it said: %q", text)}, v[0].Evidence...)
				return v
			}
		}
	}
	return nil
}

// group is the first group that has matched.
func group(re *regexp.Regexp, line string) string {
	m := re.FindStringSubmatch(line)
	for i := 1; i < len(m); i++ {
		if m[i] != "" {
			return m[i]
		}
	}
	return ""
}

func missingLibrary(_ *evidence, line string) []api.Verdict {
	name := group(saysLibrary, line)
	return verdict("missing-library", api.Certain, "its program needs the shared library "+name+", which the loader did not find", nil,
		"install the package that has "+name+" in the image, or copy it and set LD_LIBRARY_PATH")
}

// unresolved is a name that it could not find.
func unresolved(e *evidence, line string) []api.Verdict {
	name := strings.TrimSuffix(group(saysName, line), ".")
	if name == "" {
		return verdict("name-unresolved", api.Likely, "it could not resolve a name; it does not say which", nil, "porthole net dns "+e.name)
	}
	v := api.Verdict{Cause: "name-unresolved", Confidence: api.Likely, Text: "it could not resolve the name " + name}
	e.askResolver(&v, name)
	e.otherContainer(&v, name)
	v.Next = append(v.Next, "porthole net dns "+e.name)
	return []api.Verdict{v}
}

// askResolver looks at what the networks' own resolver has answered.
func (e *evidence) askResolver(v *api.Verdict, name string) {
	if !e.lives() {
		return
	}
	q, err := e.src.ContainerQueries(e.ctx, e.id)
	if err != nil {
		return // it is on no network with names
	}
	for i := len(q.Last) - 1; i >= 0; i-- {
		if got := q.Last[i]; strings.EqualFold(strings.TrimSuffix(got.Name, "."), name) && (got.Code != "NOERROR" || got.Error != "") {
			answer := fmt.Sprintf("asked for %s (%s), %s answered %s", name, got.Type, orNobody(got.Server), got.Code)
			if got.Error != "" {
				answer += ": " + got.Error
			}
			v.Confidence, v.Evidence = api.Certain, append(v.Evidence, answer)
			return
		}
	}
}

func orNobody(server string) string {
	if server == "" {
		return "Porthole's resolver"
	}
	return server
}

// otherContainer looks whether there is a container of that name that it does not reach.
func (e *evidence) otherContainer(v *api.Verdict, name string) {
	if strings.Contains(name, ".") {
		return
	}
	other, err := e.src.Subject(name)
	switch {
	case err != nil, other.Name != name: // a host's name may look like the beginning of an id, as "db"
		v.Evidence = append(v.Evidence, "there is no container of that name now")
		v.Next = append(v.Next, "start one on a network of both: porthole network create NET; porthole run --network NET --name "+name+" …")
	case e.sub == nil:
	case other.Pid == 0:
		v.Evidence = append(v.Evidence, fmt.Sprintf("the container %s is %s", name, other.Status))
		v.Next = append(v.Next, "porthole why "+name)
	case !shareNames(e.sub.Networks, other.Networks):
		v.Evidence = append(v.Evidence, fmt.Sprintf("the container %s is on %s, this one on %s; names work on a network of both that is not the default bridge", name, strings.Join(other.Networks, ", "), strings.Join(e.sub.Networks, ", ")))
		v.Next = append(v.Next, "porthole network create NET; porthole network connect NET "+e.name+"; porthole network connect NET "+name)
	}
}

func shareNames(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y && x != "bridge" && x != "host" && x != "none" {
				return true
			}
		}
	}
	return false
}

func outOfFiles(e *evidence, _ string) []api.Verdict {
	next := "porthole run --ulimit nofile=SOFT:HARD …, or find the leak: porthole top " + e.name
	return verdict("out-of-fds", api.Likely, "it ran out of file descriptors", nil, next)
}

func outOfProcesses(e *evidence, _ string) []api.Verdict {
	limit := e.pidsLimit()
	for _, s := range e.samples {
		if limit > 0 && s.Pids != nil && float64(*s.Pids) >= nearly*float64(limit) {
			return verdict("out-of-pids", api.Certain, fmt.Sprintf("it could start no further process: its limit is %d", limit),
				[]string{fmt.Sprintf("%d processes and threads in a sample", *s.Pids)}, "porthole run --pids-limit N …, or find what starts them: porthole top "+e.name)
		}
	}
	if limit == 0 {
		e.unknown = append(e.unknown, "why it could start no process: it has no limit of its own")
	}
	return verdict("out-of-pids", api.Likely, "it could start no further process", nil, "porthole run --pids-limit N …, --ulimit nproc=N")
}

func (e *evidence) pidsLimit() uint64 {
	switch {
	case e.death != nil:
		return e.death.Limits.Pids
	case e.sub != nil:
		return e.sub.PidsLimit
	}
	return 0
}

func inUse(e *evidence, _ string) []api.Verdict {
	return verdict("port-in-use", api.Likely, "a port that it wants to listen on is in use in its network namespace", nil,
		"look who listens there: with --network host or container:… it is another's")
}
