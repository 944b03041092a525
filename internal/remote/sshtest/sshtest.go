// Package sshtest runs a real ssh server for tests, with keys and a
// configuration of its own, on a port of the loopback interface.
package sshtest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
)

// RequireVar names the environment variable that, set to "1", makes a missing
// ssh server an error instead of ErrMissing.
const RequireVar = "GOBUILD_REQUIRE_NIX"

// ErrMissing means that there is no ssh server to be run.
var ErrMissing = errors.New("no ssh server can be run")

// A Server is an ssh server that lets its own user in.
type Server struct {
	Port    string
	Key     string // file of the private key that it takes
	HostKey string // base-64 of its public key, as lists of machines have it
	listen  net.Listener
	config  string
	log     string

	mu       sync.Mutex // guards what follows
	sessions map[*exec.Cmd]bool
	ended    bool
	all      sync.WaitGroup
}

// Start starts a server that keeps its files in dir. The sessions have the
// environment variables given as NAME=VALUE.
func Start(dir string, env ...string) (*Server, error) {
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd" // seldom in the PATH of ordinary users
		if _, err := os.Stat(sshd); err != nil {
			if os.Getenv(RequireVar) == "1" {
				return nil, fmt.Errorf("sshd is not installed, and %s=1 demands it", RequireVar)
			}
			return nil, ErrMissing
		}
	}
	if _, err := user.Current(); err != nil {
		return nil, fmt.Errorf("%w for users without an account", ErrMissing)
	}
	s := &Server{
		Key: filepath.Join(dir, "user"), config: filepath.Join(dir, "sshd_config"), log: filepath.Join(dir, "sshd.log"),
		sessions: map[*exec.Cmd]bool{},
	}
	if err := s.configure(dir, env); err != nil {
		return nil, err
	}
	if s.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	_, s.Port, _ = net.SplitHostPort(s.listen.Addr().String())
	s.all.Add(1)
	go s.serve(sshd)
	return s, nil
}

func (s *Server) configure(dir string, env []string) error {
	if os.Geteuid() == 0 { // there sshd insists on a directory, which systemd would make
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return err
		}
	}
	host := filepath.Join(dir, "host")
	for _, key := range []string{host, s.Key} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
			return fmt.Errorf("making a key: %w: %s", err, out)
		}
	}
	public, err := os.ReadFile(host + ".pub")
	if err != nil {
		return err
	}
	fields := strings.Fields(string(public))
	s.HostKey = base64.StdEncoding.EncodeToString([]byte(fields[0] + " " + fields[1]))
	config := "HostKey " + host + "\nAuthorizedKeysFile " + s.Key + ".pub\nStrictModes no\nUsePAM no\n" +
		"PermitRootLogin yes\nPasswordAuthentication no\nPrintMotd no\nPidFile none\n"
	if len(env) > 0 {
		config += "SetEnv"
		for _, v := range env {
			config += ` "` + v + `"`
		}
		config += "\n"
	}
	return os.WriteFile(s.config, []byte(config), 0o644)
}

// serve gives each connection a server of its own, as inetd does: then the
// port is there before the first client comes.
func (s *Server) serve(sshd string) {
	defer s.all.Done()
	for {
		conn, err := s.listen.Accept()
		if err != nil {
			return
		}
		file, err := conn.(*net.TCPConn).File()
		conn.Close()
		if err != nil {
			continue
		}
		cmd := exec.Command(sshd, "-i", "-f", s.config, "-E", s.log)
		cmd.Stdin, cmd.Stdout = file, file
		s.mu.Lock()
		if !s.ended && cmd.Start() == nil {
			s.sessions[cmd] = true
			s.all.Add(1)
			go func() {
				defer s.all.Done()
				_ = cmd.Wait()
				s.mu.Lock()
				delete(s.sessions, cmd)
				s.mu.Unlock()
			}()
		}
		s.mu.Unlock()
		file.Close()
	}
}

// Break ends all connections, as if the machine had lost its power.
func (s *Server) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cmd := range s.sessions {
		_ = cmd.Process.Kill()
	}
}

// Stop ends the server.
func (s *Server) Stop() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.listen.Close()
	s.Break()
	s.all.Wait()
}

// Log is what the server has said.
func (s *Server) Log() string {
	text, _ := os.ReadFile(s.log)
	return string(text)
}

// User is who can log in.
func User() string {
	u, err := user.Current()
	if err != nil {
		return "root"
	}
	return u.Username
}
