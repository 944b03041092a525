package remote

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// An address is what the URI of a machine's store means.
type address struct {
	host      string // [user@]host for ssh; "" for a store on this machine
	port      string
	local     string   // URI of a store on this machine
	features  []string // that it is to have, for it knows of none by itself
	compress  bool
	key       string
	hostKey   string // base-64
	program   []string
	store     string   // URI that the far side opens; "" for its default
	transport []string // instead of ssh
}

// farProgram is what runs at the far end.
const farProgram = "nix-store"

// address reads the machine's URI.
func (m *Machine) address() (*address, error) {
	a := &address{key: m.Key, hostKey: m.HostKey, program: []string{farProgram}}
	scheme, rest, ok := strings.Cut(m.URI, "://")
	switch {
	case ok && (scheme == "ssh" || scheme == "ssh-ng"):
		return a, a.ssh(rest, scheme == "ssh-ng")
	case !ok && (strings.HasPrefix(m.URI, "/") || m.URI == "local" || strings.HasPrefix(m.URI, "local?")):
		a.local, a.features = m.URI, slices.Concat(m.Features, m.Mandatory)
		return a, nil
	}
	return nil, fmt.Errorf("cannot build in a store like '%s'; 'ssh://HOST' is one that works", m.URI)
}

func (a *address) ssh(rest string, ng bool) error {
	authority, query, _ := strings.Cut(rest, "?")
	authority = strings.TrimSuffix(authority, "/")
	if err := a.authority(authority); err != nil {
		return err
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, text, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(text) // keys have a plus that is no space
		if err != nil {
			return fmt.Errorf("bad parameter '%s' of '%s': %w", name, authority, err)
		}
		switch name {
		case "compress":
			a.compress = value == "true" || value == "1"
		case "ssh-key":
			a.key = value
		case "base64-ssh-public-host-key":
			a.hostKey = value
		case "remote-program":
			if !ng { // there it is a daemon's name
				a.program = strings.Fields(value)
			}
		case "remote-store":
			a.store = value
		case "transport":
			a.transport = strings.Fields(value)
		}
	}
	if len(a.program) == 0 {
		return fmt.Errorf("the parameter remote-program of '%s' is empty", authority)
	}
	return nil
}

// authority reads "[user@]host[:port]".
func (a *address) authority(text string) error {
	user, host, ok := strings.Cut(text, "@")
	if !ok {
		user, host = "", text
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (strings.HasSuffix(host[:i], "]") || strings.Count(host, ":") == 1) {
		host, a.port = host[:i], host[i+1:]
		if n, err := strconv.ParseUint(a.port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("invalid port '%s' of SSH host '%s'", a.port, text)
		}
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	// What begins with a dash would be an option of ssh.
	if host == "" || host[0] == '-' || ok && user == "" || strings.HasPrefix(user, "-") || strings.ContainsAny(text, " \t\n\x00") {
		return fmt.Errorf("invalid SSH host name '%s'", text)
	}
	a.host = host
	if ok {
		a.host = user + "@" + host
	}
	return nil
}

// knownHosts is a file for ssh that knows only this host; "" leaves that to
// ssh.
func (a *address) knownHosts() (string, error) {
	if a.hostKey == "" {
		return "", nil
	}
	key, err := base64.StdEncoding.DecodeString(a.hostKey)
	if err != nil {
		return "", fmt.Errorf("the public key of '%s' is not valid base64: %w", a.host, err)
	}
	line := strings.TrimSpace(string(key))
	if strings.ContainsAny(line, "\n\r\x00") {
		return "", fmt.Errorf("the public key of '%s' is more than a line", a.host)
	}
	host := a.host[strings.IndexByte(a.host, '@')+1:]
	if a.port != "" {
		host = "[" + host + "]:" + a.port
	}
	return host + " " + line + "\n", nil
}

// serve is the command for the far end.
func (a *address) serve() []string {
	argv := append(a.program[:len(a.program):len(a.program)], "--serve", "--write")
	if a.store != "" {
		argv = append(argv, "--store", a.store)
	}
	return argv
}

// An SSH is how machines are reached that do not say otherwise.
type SSH struct {
	// Options are more arguments for ssh, before ours.
	Options []string
	// Transport is a command to use instead of ssh. The far end's command is
	// appended to it; "%h" in it stands for the machine's [user@]host.
	Transport []string
	// ConnectTimeout is how long ssh may try; 0 for DefaultConnectTimeout.
	ConnectTimeout int // seconds
}

// DefaultConnectTimeout is as long as an engine can wait for a hook's answer,
// in seconds.
const DefaultConnectTimeout = 15

// aliveInterval and aliveCount bound the time until the loss of a machine is
// noticed that does not even close its connections: a minute.
const (
	aliveInterval = 15 // seconds
	aliveCount    = 4
)

// command is the whole command line. knownHosts is the name of a file, or "".
func (a *address) command(s *SSH, knownHosts string) []string {
	if a.local != "" {
		argv := []string{farProgram, "--serve", "--write", "--store", a.local}
		if len(a.features) > 0 {
			argv = append(argv, "--option", "system-features", strings.Join(a.features, " "))
		}
		return argv
	}
	transport := s.Transport
	if len(a.transport) > 0 {
		transport = a.transport
	}
	if len(transport) > 0 {
		var argv []string
		for _, w := range transport {
			argv = append(argv, strings.ReplaceAll(w, "%h", a.host))
		}
		return append(argv, a.serve()...)
	}
	argv := []string{"ssh", a.host, "-x", "-a"}
	if a.port != "" {
		argv = append(argv, "-p", a.port)
	}
	if a.key != "" {
		argv = append(argv, "-i", a.key)
	}
	if knownHosts != "" {
		argv = append(argv, "-oUserKnownHostsFile="+knownHosts)
	}
	if a.compress {
		argv = append(argv, "-C")
	}
	argv = append(argv, s.Options...) // before ours: ssh takes the first of two values
	timeout := s.ConnectTimeout
	if timeout == 0 {
		timeout = DefaultConnectTimeout
	}
	argv = append(argv, fmt.Sprintf("-oConnectTimeout=%d", timeout),
		fmt.Sprintf("-oServerAliveInterval=%d", aliveInterval), fmt.Sprintf("-oServerAliveCountMax=%d", aliveCount))
	// ssh hands over one line for the far shell
	return append(argv, strings.Join(quoted(a.serve()), " "))
}

// quoted makes words of a shell of words.
func quoted(argv []string) []string {
	out := make([]string, len(argv))
	for i, w := range argv {
		out[i] = w
		if w == "" || strings.ContainsFunc(w, func(c rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=+,@%", c)
		}) {
			out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return out
}
