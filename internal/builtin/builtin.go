// Package builtin is what the engine tells the program that carries out the
// builders whose names begin with "builtin:". That program runs in a sandbox,
// as any builder does.
package builtin

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// Job is the network program's job. Its one argument is the number of a
// descriptor from which it reads the Request.
const Job = "builtin"

// Argv is how the program is started with a request on a descriptor.
func Argv(fd int) []string { return []string{"gobuild-net", Job, strconv.Itoa(fd)} }

// The builders (derivation spec, section 13).
const (
	Fetchurl      = "fetchurl"
	Buildenv      = "buildenv"
	UnpackChannel = "unpack-channel"
)

// Known tells whether there is a builder of this name.
func Known(name string) bool {
	return slices.Contains([]string{Fetchurl, Buildenv, UnpackChannel}, name)
}

// A Request is a build.
type Request struct {
	Builder string            // without "builtin:"
	Env     map[string][]byte // the derivation's variables, of which some are the builder's arguments
	Fetch   *Fetch            `json:",omitempty"` // for Fetchurl
}

// A Fetch is what a download needs beside the derivation. It may hold secrets.
type Fetch struct {
	Fixed    bool              // the output's hash is known
	FlatHash string            // "ALGORITHM/HEX" where that is the hash of the file itself
	Mirrors  []string          // URLs of servers that have files by their hash
	Netrc    string            // contents of the netrc file
	CAs      []byte            // certificates in PEM; nil: the system's
	Proxies  map[string]string // variables by which the user names proxies

	UserAgent      string
	HTTP2          bool
	Attempts       int           // for what fails for a passing reason
	ConnectTimeout time.Duration // 0: none
	StallTimeout   time.Duration // a download that delivers nothing for so long has failed; 0: never
	Speed          int64         // limit in KiB per second; 0: none
}

// ProxyVariables are the names that Fetch.Proxies may have.
var ProxyVariables = []string{
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
}

// Encode makes the bytes of a request.
func (r *Request) Encode() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding a request for 'builtin:%s': %w", r.Builder, err)
	}
	return text, nil
}

// Decode reads a request to the end of r.
func Decode(r io.Reader) (*Request, error) {
	req := new(Request)
	if err := json.NewDecoder(r).Decode(req); err != nil {
		return nil, fmt.Errorf("reading the engine's request: %w", err)
	}
	return req, nil
}
