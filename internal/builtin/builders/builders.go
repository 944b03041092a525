// Package builders carries out the builders that are built in: it downloads a
// file, links packages into one tree, or unpacks a channel (derivation spec,
// section 13). What it reads is data, whoever wrote it.
package builders

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/builtin"
)

// A build is one request on its way.
type build struct {
	*builtin.Request
	log   io.Writer
	sleep func(time.Duration)
}

// Main is the job: its argument is the descriptor of the request. The log goes
// to standard error.
func Main(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("the job '%s' takes one argument", builtin.Job)
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("'%s' is not the number of a descriptor", args[0])
	}
	f := os.NewFile(uintptr(fd), "request")
	if f == nil {
		return fmt.Errorf("'%s' is not the number of a descriptor", args[0])
	}
	req, err := builtin.Decode(f)
	// Closed at once: the request has secrets, and a URL may name any file.
	_ = f.Close()
	if err != nil {
		return err
	}
	unix.Umask(0o022)
	b := &build{Request: req, log: os.Stderr, sleep: time.Sleep}
	return b.run()
}

func (b *build) run() error {
	switch b.Builder {
	case builtin.Fetchurl:
		return b.fetchurl()
	case builtin.Buildenv:
		return b.buildenv()
	case builtin.UnpackChannel:
		return b.unpackChannel()
	}
	return fmt.Errorf("unsupported builtin builder '%s'", b.Builder)
}

// attribute is a variable that the derivation must have.
func (b *build) attribute(name string) (string, error) {
	value, ok := b.Env[name]
	if !ok {
		return "", fmt.Errorf("attribute '%s' missing", name)
	}
	return string(value), nil
}

// option is a variable that the derivation may have.
func (b *build) option(name string) string { return string(b.Env[name]) }

// attributes are several.
func (b *build) attributes(names ...string) ([]string, error) {
	values := make([]string, len(names))
	for i, name := range names {
		var err error
		if values[i], err = b.attribute(name); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// warn writes a line that the engine shows as a warning.
func (b *build) warn(format string, args ...any) {
	b.tell(map[string]any{"action": "msg", "level": activity.Warn, "msg": "warning: " + fmt.Sprintf(format, args...)})
}

// tell writes an event, of the kind that any builder may write.
func (b *build) tell(event map[string]any) {
	if text, err := json.Marshal(event); err == nil {
		fmt.Fprintf(b.log, "@nix %s\n", text)
	}
}
