package remote

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/protocol"
	"gobuild/internal/store/storepath"
)

// A Conn is a process that leads to another machine's store. It is not safe
// for concurrent use.
type Conn struct {
	*protocol.ServeClient
	URI string

	cmd   *exec.Cmd   // nil when it has ended
	proc  *os.Process // the same for Interrupt
	in    *os.File    // its standard input
	out   *os.File    // its standard output
	said  *overhearing
	hosts *os.File // what ssh knows, until it has read it; or nil
}

// Dialing is how connections are made.
type Dialing struct {
	SSH   SSH
	Env   []string         // of the program that leads there
	Dir   storepath.Dir    // of both stores
	Offer protocol.Version // 0 for the newest
	// Patience is how long the far side may take to greet; 0 for no limit.
	Patience time.Duration
}

// An UnusableError says that a machine cannot be reached because of what is
// said of it, or of what is missing here: another try will not help.
type UnusableError struct{ Err error }

func (e *UnusableError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *UnusableError) Unwrap() error { return e.Err }

// Dial starts the program that leads to a machine and greets its store. The
// error has what that program said.
func Dial(m *Machine, d *Dialing) (*Conn, error) {
	a, err := m.address()
	if err != nil {
		return nil, &UnusableError{err}
	}
	c := &Conn{URI: m.URI}
	if err := c.start(a, d); err != nil {
		c.closeFiles()
		return nil, err
	}
	if d.Patience > 0 {
		_ = c.out.SetReadDeadline(time.Now().Add(d.Patience)) // a pipe can do that
	}
	offer := d.Offer
	if offer == 0 {
		offer = protocol.ServeVersion
	}
	c.ServeClient, err = protocol.NewServeClient(c.out, c.in, d.Dir, offer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("there was no answer for %s", d.Patience)
		c.terminate()
	}
	if err != nil {
		return nil, c.Explain(err)
	}
	_ = c.out.SetReadDeadline(time.Time{})
	return c, nil
}

// start runs the program.
func (c *Conn) start(a *address, d *Dialing) error {
	hosts := ""
	text, err := a.knownHosts()
	if err != nil {
		return &UnusableError{err}
	}
	if text != "" {
		hosts, err = c.keepHosts(text)
	}
	if err != nil {
		return err
	}
	argv := a.command(&d.SSH, hosts)
	c.cmd = exec.Command(argv[0], argv[1:]...)
	c.cmd.Env = []string{} // not nil, which would mean ours
	for _, v := range d.Env {
		// ssh shall ask nobody: there may be a screen, but no one waits at it
		if !strings.HasPrefix(v, "DISPLAY=") && !strings.HasPrefix(v, "SSH_ASKPASS=") {
			c.cmd.Env = append(c.cmd.Env, v)
		}
	}
	err = c.startWithPipes()
	if err != nil {
		err = fmt.Errorf("starting '%s': %w", argv[0], err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return &UnusableError{err}
		}
		return err
	}
	return nil
}

// keepHosts makes a file that goes with this process, and returns the name by
// which ssh finds it.
func (c *Conn) keepHosts(text string) (string, error) {
	fd, err := unix.MemfdCreate("known_hosts", unix.MFD_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("making a file for the public key of a host: %w", err)
	}
	c.hosts = os.NewFile(uintptr(fd), "known_hosts")
	if _, err := c.hosts.WriteString(text); err != nil {
		return "", fmt.Errorf("keeping the public key of a host: %w", err)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
}

func (c *Conn) startWithPipes() error {
	var theirs [3]*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	var err error
	var said *os.File
	if theirs[0], c.in, err = os.Pipe(); err != nil {
		return err
	}
	if c.out, theirs[1], err = os.Pipe(); err != nil {
		return err
	}
	if said, theirs[2], err = os.Pipe(); err != nil {
		return err
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirs[0], theirs[1], theirs[2]
	if err := c.cmd.Start(); err != nil {
		said.Close()
		return err
	}
	c.proc, c.said = c.cmd.Process, overhear(said)
	return nil
}

// Forward passes on what the far side says on its standard error from now on.
// w is used until the connection is closed, by another goroutine.
func (c *Conn) Forward(w io.Writer) { c.said.forward(w) }

// lastWords is how long a program may take that is asked to end.
const lastWords = 10 * time.Second

// Close ends the connection and waits until all that was said has been passed
// on.
func (c *Conn) Close() {
	if c.cmd == nil {
		return
	}
	c.in.Close()  // the far side ends at the end of its input
	c.out.Close() // even if it has something to say
	kill := time.AfterFunc(lastWords, func() { _ = c.cmd.Process.Kill() })
	_ = c.cmd.Wait() // how it ended no longer matters
	kill.Stop()
	c.said.end()
	c.cmd = nil
	c.closeFiles()
}

// Within makes the other side lost if it takes longer to answer a question;
// limit is 0 for no limit.
func (c *Conn) Within(limit time.Duration, ask func() error) error {
	if limit > 0 {
		_ = c.out.SetReadDeadline(time.Now().Add(limit)) // a pipe can do that
		defer func() { _ = c.out.SetReadDeadline(time.Time{}) }()
	}
	err := ask()
	var lost *protocol.LostError
	if errors.As(err, &lost) && errors.Is(err, os.ErrDeadlineExceeded) {
		c.terminate()
		err = &protocol.LostError{Doing: lost.Doing, Err: fmt.Errorf("there was no answer for %s", limit)}
	}
	return err
}

// Interrupt makes what is being done fail. Any goroutine may call it.
func (c *Conn) Interrupt() {
	c.terminate()
	_ = c.out.SetReadDeadline(time.Now())
	_ = c.in.SetWriteDeadline(time.Now())
}

// Abort ends the connection in the middle of something.
func (c *Conn) Abort() {
	c.terminate()
	c.Close()
}

// terminate asks the program to end. It is not killed at once: a store on this
// machine has builders to end.
func (c *Conn) terminate() { _ = c.proc.Signal(unix.SIGTERM) } // it knows whether it has ended

func (c *Conn) closeFiles() {
	for _, f := range []*os.File{c.in, c.out, c.hosts} {
		_ = f.Close() // does nothing to one that is nil or closed
	}
}

// Explain closes a connection that err has made useless, and adds to err what
// was said at last.
func (c *Conn) Explain(err error) error {
	c.Close()
	if text := c.said.last(); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}
